#include "core/hcl_variables.h"

#include <stdbool.h>
#include <string.h>

#include "util/alloc.h"
#include "util/strutil.h"

// "${" inside strings inside "${" …
#define NESTING_MAX 64

typedef enum TokenType {
        TOKEN_END,
        TOKEN_NAME,   // identifier
        TOKEN_STRING, // without its quotes
        TOKEN_OPEN,   // ( [ {
        TOKEN_CLOSE,  // ) ] }
        TOKEN_NEWLINE,
        TOKEN_OTHER,
} TokenType;

typedef struct Token {
        TokenType type;
        const char *text;
        size_t len;
} Token;

typedef struct Lexer {
        const char *at, *end;
        unsigned nesting;
} Lexer;

static Token next_token(Lexer *lexer);

static bool at_str(const Lexer *lexer, const char *text)
{
        size_t len = strlen(text);

        return (size_t)(lexer->end - lexer->at) >= len && memcmp(lexer->at, text, len) == 0;
}

static bool is_name_start(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}

static bool is_name_part(char c)
{
        return is_name_start(c) || (c >= '0' && c <= '9') || c == '-';
}

// Behind an opening bracket: on to the one that closes it.
static void skip_brackets(Lexer *lexer)
{
        size_t depth = 1;

        if (++lexer->nesting > NESTING_MAX) {
                lexer->at = lexer->end;
                return;
        }
        while (depth > 0) {
                Token token = next_token(lexer);

                if (token.type == TOKEN_END)
                        return;
                if (token.type == TOKEN_OPEN)
                        depth++;
                if (token.type == TOKEN_CLOSE)
                        depth--;
        }
        lexer->nesting--;
}

// Behind the opening quote; gives the text up to the closing one.
static Token quoted(Lexer *lexer)
{
        Token token = {.type = TOKEN_STRING, .text = lexer->at};

        while (lexer->at < lexer->end && *lexer->at != '"') {
                if (at_str(lexer, "$${") || at_str(lexer, "%%{")) {
                        lexer->at += 3;
                } else if (at_str(lexer, "${") || at_str(lexer, "%{")) {
                        lexer->at += 2;
                        skip_brackets(lexer);
                } else if (*lexer->at == '\\' && lexer->at + 1 < lexer->end) {
                        lexer->at += 2;
                } else {
                        lexer->at++;
                }
        }
        token.len = (size_t)(lexer->at - token.text);
        if (lexer->at < lexer->end)
                lexer->at++;
        return token;
}

static const char *line_end(const Lexer *lexer)
{
        const char *newline = memchr(lexer->at, '\n', (size_t)(lexer->end - lexer->at));

        return newline ? newline : lexer->end;
}

// Behind "<<": the marker, then lines up to the one that holds just the marker.
static void skip_heredoc(Lexer *lexer)
{
        const char *marker;
        size_t marker_len;

        if (lexer->at < lexer->end && *lexer->at == '-')
                lexer->at++;
        marker = lexer->at;
        while (lexer->at < lexer->end && is_name_part(*lexer->at))
                lexer->at++;
        marker_len = (size_t)(lexer->at - marker);
        if (marker_len == 0)
                return;
        lexer->at = line_end(lexer);
        while (lexer->at < lexer->end) {
                const char *line = ++lexer->at, *end = line_end(lexer);

                lexer->at = end;
                while (line < end && (*line == ' ' || *line == '\t'))
                        line++;
                while (end > line && memchr(" \t\r", end[-1], 3))
                        end--;
                if ((size_t)(end - line) == marker_len && memcmp(line, marker, marker_len) == 0)
                        return;
        }
}

static void skip_block_comment(Lexer *lexer)
{
        const char *close = memmem(lexer->at, (size_t)(lexer->end - lexer->at), "*/", 2);

        lexer->at = close ? close + 2 : lexer->end;
}

static void skip_blanks_and_comments(Lexer *lexer)
{
        while (lexer->at < lexer->end) {
                if (memchr(" \t\r", *lexer->at, 3))
                        lexer->at++;
                else if (*lexer->at == '#' || at_str(lexer, "//"))
                        lexer->at = line_end(lexer);
                else if (at_str(lexer, "/*"))
                        skip_block_comment(lexer);
                else
                        return;
        }
}

static Token next_token(Lexer *lexer)
{
        Token token;

        skip_blanks_and_comments(lexer);
        token = (Token){.type = TOKEN_END, .text = lexer->at};
        if (lexer->at == lexer->end)
                return token;
        if (at_str(lexer, "<<")) {
                lexer->at += 2;
                skip_heredoc(lexer);
                token.type = TOKEN_OTHER;
                return token;
        }
        if (is_name_start(*lexer->at)) {
                while (lexer->at < lexer->end && is_name_part(*lexer->at))
                        lexer->at++;
                token.type = TOKEN_NAME;
                token.len = (size_t)(lexer->at - token.text);
                return token;
        }
        switch (*lexer->at++) {
        case '"':
                return quoted(lexer);
        case '\n':
                token.type = TOKEN_NEWLINE;
                break;
        case '(':
        case '[':
        case '{':
                token.type = TOKEN_OPEN;
                break;
        case ')':
        case ']':
        case '}':
                token.type = TOKEN_CLOSE;
                break;
        default:
                token.type = TOKEN_OTHER;
        }
        return token;
}

static bool is_word(const Token *token, const char *word)
{
        return token->type == TOKEN_NAME && token->len == strlen(word) &&
               memcmp(token->text, word, token->len) == 0;
}

typedef struct Names {
        char **list;
        size_t n;
} Names;

static void add_name(Names *names, const Token *name)
{
        if (names->n < HCL_VARIABLES_MAX)
                names->list[names->n++] = xstrndup(name->text, name->len);
}

// The rest of the line, with all brackets that open on it; false when the block or text ends.
static bool skip_statement(Lexer *lexer)
{
        for (;;) {
                Token token = next_token(lexer);

                if (token.type == TOKEN_NEWLINE)
                        return true;
                if (token.type == TOKEN_CLOSE || token.type == TOKEN_END)
                        return false;
                if (token.type == TOKEN_OPEN)
                        skip_brackets(lexer);
        }
}

// The attributes of a `variables` block, which has been opened.
static void read_attributes(Lexer *lexer, Names *names)
{
        for (;;) {
                Token token = next_token(lexer);

                if (token.type == TOKEN_CLOSE || token.type == TOKEN_END)
                        return;
                if (token.type == TOKEN_NEWLINE)
                        continue;
                if (token.type == TOKEN_NAME)
                        add_name(names, &token);
                if (!skip_statement(lexer))
                        return;
        }
}

// A block's type has been read; its labels, its opening brace and what is in it follow.
static void read_block(Lexer *lexer, const Token *type, Names *names)
{
        Token label = next_token(lexer), token = label;

        while (token.type == TOKEN_STRING || token.type == TOKEN_NAME)
                token = next_token(lexer);
        if (token.type != TOKEN_OPEN)
                return;
        if (label.type == TOKEN_OPEN && is_word(type, "variables")) {
                read_attributes(lexer, names);
                return;
        }
        if (label.type != TOKEN_OPEN && is_word(type, "variable"))
                add_name(names, &label);
        skip_brackets(lexer);
}

char **hcl_declared_variables(const char *text, size_t len)
{
        Lexer lexer = {.at = text, .end = text + len};
        Names names = {.list = xcalloc(HCL_VARIABLES_MAX + 1, sizeof *names.list)};
        Token token;

        while ((token = next_token(&lexer)).type != TOKEN_END) {
                if (token.type == TOKEN_NAME)
                        read_block(&lexer, &token, &names);
        }
        return names.list;
}
