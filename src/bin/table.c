#include "bin/table.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "util/alloc.h"
#include "util/strutil.h"

#define CELL_MAX 1024 // bytes
#define CELL_GAP 2

static const char *const colour_codes[N_COLOURS] = {
        [COLOUR_NONE] = "",        [COLOUR_GREEN] = "\033[32m", [COLOUR_YELLOW] = "\033[33m",
        [COLOUR_RED] = "\033[31m", [COLOUR_DIM] = "\033[2m",
};
#define COLOUR_OFF "\033[0m"

void table_add(Table *table, const char *text, Colour colour)
{
        const char *shown = text && *text ? text : "-";

        table->cells = xreallocarray(table->cells, table->n_cells + 1, sizeof *table->cells);
        table->cells[table->n_cells++] =
                (TableCell){.text = str_visible(shown, strlen(shown), CELL_MAX), .colour = colour};
}

void table_addf(Table *table, Colour colour, const char *fmt, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list args;

        va_start(args, fmt);
        text = xvasprintf(fmt, args);
        va_end(args);
        table_add(table, text, colour);
}

size_t table_rows(const Table *table)
{
        return table->n_cells / table->n_columns;
}

// Bytes of the first `columns` characters, each taken to be one column wide.
static size_t utf8_prefix(const char *text, size_t columns)
{
        const char *at = text;

        while (*at && columns--) {
                at++;
                while (((unsigned char)*at & 0xC0) == 0x80)
                        at++;
        }
        return (size_t)(at - text);
}

static size_t utf8_width(const char *text)
{
        size_t width = 0;

        for (; *text; text++)
                width += ((unsigned char)*text & 0xC0) != 0x80;
        return width;
}

static bool may_colour(FILE *out)
{
        const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

        return isatty(fileno(out)) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

// Columns of the terminal; SIZE_MAX when `out` is none or does not say.
static size_t screen_width(FILE *out)
{
        struct winsize size;

        if (ioctl(fileno(out), TIOCGWINSZ, &size) < 0 || !size.ws_col)
                return SIZE_MAX;
        return size.ws_col;
}

void print_coloured(FILE *out, Colour colour, const char *text)
{
        if (colour != COLOUR_NONE && may_colour(out))
                (void)fprintf(out, "%s%s" COLOUR_OFF, colour_codes[colour], text);
        else
                (void)fputs(text, out);
}

static void print_cell(FILE *out, const TableCell *cell, size_t width, bool right)
{
        size_t len = utf8_width(cell->text), pad = width > len ? width - len : 0;

        if (right)
                (void)fprintf(out, "%*s", (int)pad, "");
        print_coloured(out, cell->colour, cell->text);
        if (!right)
                (void)fprintf(out, "%*s", (int)(pad + CELL_GAP), "");
        else
                (void)fprintf(out, "%*s", CELL_GAP, "");
}

static void print_last_cell(FILE *out, const TableCell *cell, size_t room)
{
        _cleanup_free_ char *cut = NULL;

        if (utf8_width(cell->text) <= room) {
                print_coloured(out, cell->colour, cell->text);
        } else if (room) {
                cut = xasprintf("%.*s…", (int)utf8_prefix(cell->text, room - 1), cell->text);
                print_coloured(out, cell->colour, cut);
        }
        (void)fputc('\n', out);
}

static void print_row(const Table *table, const TableCell *cells, const size_t *widths, FILE *out)
{
        size_t screen = screen_width(out), used = 0, last = table->n_columns - 1;

        for (size_t at = 0; at < last; at++) {
                print_cell(out, &cells[at], widths[at], table->columns[at].right);
                used += widths[at] + CELL_GAP;
        }
        print_last_cell(out, &cells[last], screen > used ? screen - used : 0);
}

void table_print(const Table *table, FILE *out)
{
        _cleanup_free_ size_t *widths = xcalloc(table->n_columns, sizeof *widths);
        _cleanup_free_ TableCell *titles = xcalloc(table->n_columns, sizeof *titles);

        for (size_t at = 0; at < table->n_columns; at++) {
                widths[at] = utf8_width(table->columns[at].title);
                titles[at] = (TableCell){.text = xstrdup(table->columns[at].title),
                                         .colour = COLOUR_DIM};
        }
        for (size_t at = 0; at < table->n_cells; at++) {
                size_t *width = &widths[at % table->n_columns];

                *width = MAX(*width, utf8_width(table->cells[at].text));
        }
        print_row(table, titles, widths, out);
        for (size_t row = 0; row < table_rows(table); row++)
                print_row(table, &table->cells[row * table->n_columns], widths, out);
        for (size_t at = 0; at < table->n_columns; at++)
                free(titles[at].text);
}

void table_done(Table *table)
{
        for (size_t at = 0; at < table->n_cells; at++)
                free(table->cells[at].text);
        free(table->cells);
        *table = (Table){0};
}
