"""Names of files and folders that some library reads as something else than a name."""

import unicodedata

ODD_NAMES = {
    "a class of characters": "bert [final]",
    "a negated class": "[!a]",
    "one bracket": "[",
    "a star": "a*b",
    "two stars": "**",
    "a question mark": "a?b",
    "braces": "{x}",
    "a percent sign": "50%",
    "an encoded space": "a%20b",
    "a fragment": "#1",
    "a semicolon": "a;b",
    "an ampersand": "a&b",
    "a home": "~x",
    "a variable": "$HOME",
    "decomposed accents": unicodedata.normalize("NFD", "é"),
    "a newline": "new\nline",
    "a quote": "q'u",
    "double quotes": 'q"u',
    "a backslash": "back\\slash",
    "a scheme": "file:x",
    "a store": "s3:",
    "a user": "me@here",
    "a space first": " x",
    "a space last": "x ",
    "bytes that are no text": "\udcff",
}
