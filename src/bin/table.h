// Columns of text for the terminal.
//
// Widths follow the content. On a terminal the last column is cut (with "…") where the screen ends
// and colours are used unless NO_COLOR (no-color.org) says otherwise; in a pipe or a file nothing
// is cut and nothing coloured. Cells come from outside: control characters are made visible.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "util/macro.h"

typedef enum Colour {
        COLOUR_NONE,
        COLOUR_GREEN,
        COLOUR_YELLOW,
        COLOUR_RED,
        COLOUR_DIM,
        N_COLOURS,
} Colour;

typedef struct TableColumn {
        const char *title;
        bool right; // numbers
} TableColumn;

typedef struct TableCell {
        char *text;
        Colour colour;
} TableCell;

typedef struct Table {
        const TableColumn *columns; // borrowed
        size_t n_columns;
        TableCell *cells; // row by row
        size_t n_cells;
} Table;

#define TABLE_INIT(list) ((Table){.columns = (list), .n_columns = ELEMENTSOF(list)})

// The next cell, from left to right, row by row. NULL or "" shows as "-".
void table_add(Table *table, const char *text, Colour colour);
void table_addf(Table *table, Colour colour, const char *fmt, ...) printf_like(3, 4);

size_t table_rows(const Table *table);
void table_print(const Table *table, FILE *out);
void table_done(Table *table);
#define _cleanup_table_ _cleanup_(table_done)

// Prints text in a colour if `out` is a terminal that may have it.
void print_coloured(FILE *out, Colour colour, const char *text);
