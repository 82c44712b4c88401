# functions.awk - checks of what functions say and whom they call, across files.
#
#   twins       no two files of a group in `apart` share a function by name or by shape: the sequence of its tokens with
#               every name taken for any other. What both need is decided in one place (offload/residency.h)
#   circles     no .c files call each other in a circle: of two files one stands above the other. Folders in `together`
#               are one module
#
# Run by tests/lint/run with the .c files of a tree, from its root; prints file:line: what is wrong.

BEGIN {
    apart["offload/stream.c"] = apart["offload/simulate.c"] = "streaming"
    together["src/data/jinja/"] = 1 # an interpreter: its evaluator and what it calls call each other
    LEAST_TOKENS = 16 # shorter ones are alike by necessity: return a field, forward a call
    split("if else for while do switch case break continue return sizeof static const void int32_t int64_t uint64_t bool char int double float size_t", words, " ")
    for (i in words) keyword[words[i]] = 1
}

FNR == 1 { in_comment = depth = 0; heading = ""; file[++files] = FILENAME }

{
    line = strip($0)
    if (line ~ /^[ \t]*#/) next
    if (!depth) {
        if (line ~ /^[A-Za-z_]/ || heading != "") heading = heading line
        if (heading ~ /;[ \t]*$/ && heading !~ /\{/) { heading = ""; next }
        if (heading !~ /\{/) { if (heading !~ /\(/ && line ~ /^[ \t]*$/) heading = ""; next }
        begin(heading)
        heading = ""
    } else body = body " " line
    depth += gsub(/\{/, "{", line) - gsub(/\}/, "}", line)
    if (depth <= 0) { finish(); depth = 0 }
}

END {
    for (f = 1; f <= files; f++)
        for (name in defined) if (uses[file[f], name] && defined[name] != file[f]) calls[file[f], defined[name]] = name
    for (f = 1; f <= files; f++) alive[file[f]] = 1
    # A file in no circle calls none, or is called by none, of those that are left.
    for (changed = 1; changed;) {
        changed = 0
        for (f = 1; f <= files; f++) {
            if (!alive[file[f]]) continue
            out = into = 0
            for (g = 1; g <= files; g++) {
                if (!alive[file[g]]) continue
                if (one_module(file[f], file[g])) continue
                out += (file[f], file[g]) in calls
                into += (file[g], file[f]) in calls
            }
            if (!out || !into) { alive[file[f]] = 0; changed = 1 }
        }
    }
    for (f = 1; f <= files; f++)
        for (g = 1; g <= files; g++)
            if (alive[file[f]] && alive[file[g]] && (file[f], file[g]) in calls && !one_module(file[f], file[g]))
                printf "%s:1: in a circle of calls: it calls %s() of %s\n", file[f], calls[file[f], file[g]], file[g]
}

function one_module(a, b,   folder) {
    for (folder in together) if (index(a, folder) == 1 && index(b, folder) == 1) return 1
    return 0
}

# A heading with its opening brace: a function, or something else (a struct, an initialiser).
function begin(text,   at) {
    at = index(text, "{")
    body = substr(text, at + 1)
    text = substr(text, 1, at - 1)
    name = ""
    if (text ~ /=/ || text !~ /\)[ \t]*$/ || !match(text, /[A-Za-z_][A-Za-z_0-9]*[ \t]*\(/)) return
    name = substr(text, RSTART, RLENGTH)
    sub(/[ \t]*\($/, "", name)
    first_line = FNR
    if (name ~ /^qs_/ && text !~ /(^|[ \t])static[ \t]/) defined[name] = FILENAME
    line_of[FILENAME, name] = FNR
}

function finish(   shape, rest, word, tokens, group) {
    rest = body
    while (match(rest, /[A-Za-z_][A-Za-z_0-9]*|[0-9][0-9A-Za-z_.]*|[^ \t]/)) {
        word = substr(rest, RSTART, RLENGTH)
        rest = substr(rest, RSTART + RLENGTH)
        tokens++
        if (word ~ /^[A-Za-z_]/) uses[FILENAME, word] = 1
        shape = shape (word ~ /^[0-9]/ ? "0" : word ~ /^[A-Za-z_]/ && !(word in keyword) ? "x" : word) " "
    }
    group = apart[FILENAME]
    if (name == "" || group == "") return
    if ((group, "name", name) in seen && seen[group, "name", name] != FILENAME)
        printf "%s:%d: %s() is also a function of %s\n", FILENAME, first_line, name, seen[group, "name", name]
    seen[group, "name", name] = FILENAME
    if (tokens < LEAST_TOKENS) return
    if ((group, shape) in seen && seen[group, shape] != FILENAME)
        printf "%s:%d: %s() has the shape of %s() of %s\n", FILENAME, first_line, name, called[group, shape], seen[group, shape]
    seen[group, shape] = FILENAME
    called[group, shape] = name
}

# The line without comments and with empty strings; keeps track of comments over several lines.
function strip(text,   out, i, n, c, two, quote) {
    n = length(text)
    out = ""
    for (i = 1; i <= n; i++) {
        c = substr(text, i, 1)
        two = substr(text, i, 2)
        if (in_comment) { if (two == "*/") { in_comment = 0; i++ } continue }
        if (two == "/*") { in_comment = 1; i++; continue }
        if (two == "//") break
        if (c == "\"" || c == "'") {
            for (quote = c; ++i <= n && (c = substr(text, i, 1)) != quote;) if (c == "\\") i++
            out = out quote quote
            continue
        }
        out = out c
    }
    return out
}
