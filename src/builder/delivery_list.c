#include "builder/delivery_list.h"

#include <string.h>

#include "util/alloc.h"

void delivery_list_add(DeliveryList *list, Delivery *take_delivery)
{
        list->items = xreallocarray(list->items, list->n + 1, sizeof(Delivery *));
        list->items[list->n++] = take_delivery;
}

Delivery *delivery_list_pop(DeliveryList *list)
{
        Delivery *first;

        if (!list->n)
                return NULL;
        first = list->items[0];
        memmove(list->items, list->items + 1, (list->n - 1) * sizeof(Delivery *));
        list->n--;
        return first;
}

void delivery_list_done(DeliveryList *list)
{
        while (list->n)
                delivery_free(list->items[--list->n]);
        free(list->items);
        *list = (DeliveryList){0};
}
