#!/bin/sh
# Prints a C file that holds the given YAML files as strings: embed.sh configs/*.yaml > presets.c
echo '/* Generated from configs/ by src/options/embed.sh. */'
echo '#include <stddef.h>'
echo '#include "src/options/presets.h"'
echo 'const qs_preset qs_presets[] = {'
for file in "$@"; do
    echo "{\"$(basename "$file" .yaml)\","
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$/\\n"/' "$file"
    echo '},'
done
echo '{NULL, NULL}};'
