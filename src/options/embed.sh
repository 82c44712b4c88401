#!/bin/sh
# Prints a C file that holds the given YAML files as strings in an array: embed.sh qs_presets configs/*.yaml > presets.c
array=$1
shift
echo '/* Generated from configs/ by src/options/embed.sh. */'
echo '#include <stddef.h>'
echo '#include "src/options/presets.h"'
echo "const qs_preset $array[] = {"
for file in "$@"; do
    echo "{\"$(basename "$file" .yaml)\","
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$/\\n"/' "$file"
    echo '},'
done
echo '{NULL, NULL}};'
