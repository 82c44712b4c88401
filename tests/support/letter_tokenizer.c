#include "tests/support/letter_tokenizer.h"

#include <check.h>
#include <jansson.h>
#include <string.h>

#include "src/base/memory.h"
#include "tests/support/temp_dir.h"

void test_letter_tokenizer(const char *dir, qs_tokenizer **out)
{
    static const char *const marks[] = {"<s>",
                                        "</s>",
                                        "<|im_start|>",
                                        "<|im_end|>",
                                        "<|start_header_id|>",
                                        "<|end_header_id|>",
                                        "<|eot_id|>",
                                        "<start_of_turn>",
                                        "<end_of_turn>",
                                        "<|end|>",
                                        "<|im_sep|>"};
    static const char config[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";
    json_t *vocab = json_object(), *added = json_array();
    for (int c = 9; c < 127; c++) {
        char text[2] = {(char)c};
        json_object_set_new(vocab, text, json_integer(c));
    }
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        json_array_append_new(
            added, json_pack("{s:i, s:s, s:b}", "id", 200 + (int)i, "content", marks[i], "special", 1));
    json_t *root = json_pack("{s:o, s:{s:s, s:o, s:[]}}", "added_tokens", added, "model", "type", "BPE",
                             "vocab", vocab, "merges");
    char *path = test_path(dir, "tokenizer.json"), *config_path = test_path(dir, "tokenizer_config.json");
    ck_assert_int_eq(json_dump_file(root, path, 0), 0);
    test_file_write(config_path, config, sizeof config - 1);
    qs_free(path);
    qs_free(config_path);
    json_decref(root);
    qs_err e = {0};
    ck_assert_msg(qs_tokenizer_open(dir, out, &e) == 0, "%s", e.text);
}

char *test_marked(qs_tokenizer *t, const qs_labelled *l)
{
    char *all = qs_strdup("");
    for (size_t i = 0; i < l->ids.count; i++) {
        bool trained = l->trained[i], before = i && l->trained[i - 1];
        char *one = qs_tokenizer_decode(t, &l->ids.data[i], 1, QS_DECODE_CONTINUE, NULL);
        char *longer = qs_printf("%s%s%s", all,
                                 trained && !before   ? "{"
                                 : !trained && before ? "}"
                                                      : "",
                                 one);
        qs_free(one);
        qs_free(all);
        all = longer;
    }
    if (l->ids.count && l->trained[l->ids.count - 1]) {
        char *longer = qs_printf("%s}", all);
        qs_free(all);
        all = longer;
    }
    return all;
}
