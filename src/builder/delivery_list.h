// Deliveries, in order; the list owns them.
#pragma once

#include <stddef.h>

#include "net/queue.h"

typedef struct DeliveryList {
        Delivery **items;
        size_t n;
} DeliveryList;

void delivery_list_add(DeliveryList *list, Delivery *take_delivery);
Delivery *delivery_list_pop(DeliveryList *list); // the first, or NULL
void delivery_list_done(DeliveryList *list);     // frees what is left; the list is empty then
