/* Behaviour of src/train/progress: plain lines in files, one rewritten line on a terminal, colour only where
 * wanted. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "src/train/progress.h"

static const uint64_t gib = UINT64_C(1) << 30;
static const qs_step_metrics step128 = {.step = 128,
                                        .loss = 1.8234,
                                        .learning_rate = 1.96e-4,
                                        .tokens_per_second = 9412.4,
                                        .step_seconds = 10,
                                        .wait_disk_seconds = 0.1,
                                        .wait_link_seconds = 0.02,
                                        .compute_seconds = 9.8,
                                        .device_peak_bytes = 9771050598,
                                        .host_peak_bytes = 12025908429};

/* A pseudo terminal of so many columns: what is written to *file can be read from the returned descriptor.
 * -1, said, where the system has none. */
static int terminal(int columns, FILE **file)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0) {
        printf("skip: there are no pseudo terminals here: %s\n", strerror(errno));
        return -1;
    }
    ck_assert_int_eq(grantpt(master) | unlockpt(master), 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    struct termios mode;
    tcgetattr(slave, &mode);
    cfmakeraw(&mode);
    tcsetattr(slave, TCSANOW, &mode);
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    ioctl(slave, TIOCSWINSZ, &size);
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    *file = fdopen(slave, "w");
    return master;
}

static const char *drawn(int master, FILE *file)
{
    static char text[8192];
    fflush(file);
    ssize_t n = read(master, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = '\0';
    return text;
}

START_TEST(a_file_gets_plain_lines_at_logging_steps)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    qs_progress p;
    p = (qs_progress){.file = f,
                      .first_step = 126,
                      .total_steps = 625,
                      .logging_steps = 4,
                      .vram_bytes = 10 * gib,
                      .ram_bytes = 16 * gib,
                      .quiet = false};
    qs_progress_start(&p, false);
    for (int64_t s = 127; s <= 131; s++) {
        qs_step_metrics m = step128;
        m.step = s;
        qs_progress_visit(&p, s, 1, 2);
        qs_progress_step(&p, &m);
    }
    qs_progress_eval(&p, &(qs_eval_metrics){131, 1.5, 12345, 62});
    fclose(f);
    /* The first step of a process is always shown: it tells that all is well. */
    ck_assert_str_eq(text, "step 127/625  loss 1.8234  lr 1.96e-04  9,412 tok/s  ETA 1h23m  disk 1% link 0% "
                           "compute 98%  vram 9.1/10.0G ram 11.2/16.0G\n"
                           "step 128/625  loss 1.8234  lr 1.96e-04  9,412 tok/s  ETA 1h22m  disk 1% link 0% "
                           "compute 98%  vram 9.1/10.0G ram 11.2/16.0G\n"
                           "step 131/625  validation loss 1.5000  perplexity 4.48  12,345 tokens in 1m02s\n");
    free(text);
}
END_TEST

START_TEST(the_last_step_is_always_shown_and_quiet_shows_none)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    qs_progress p;
    for (int quiet = 0; quiet < 2; quiet++) {
        p = (qs_progress){.file = f,
                          .first_step = 0,
                          .total_steps = 128,
                          .logging_steps = 1000,
                          .vram_bytes = gib / 2,
                          .ram_bytes = gib / 4,
                          .quiet = quiet};
        qs_progress_start(&p, false);
        qs_step_metrics m = step128;
        m.step = 2;
        qs_progress_step(&p, &m);
        qs_progress_step(&p, &step128);
        fflush(f);
        ck_assert(!strncmp(text, "step 128/128  ", 14));
        ck_assert_ptr_nonnull(strstr(text, "ETA 0s"));
        ck_assert_ptr_nonnull(strstr(text, "vram 9318/512M")); /* small budgets in MiB */
        ck_assert_ptr_eq(strchr(text, '\n'), text + bytes - 1);
    }
    fclose(f);
    free(text);
}
END_TEST

START_TEST(a_terminal_has_one_line_rewritten_that_never_wraps)
{
    FILE *f;
    int master = terminal(60, &f);
    if (master < 0) return;
    qs_progress p;
    p = (qs_progress){.file = f,
                      .first_step = 126,
                      .total_steps = 625,
                      .logging_steps = 100,
                      .vram_bytes = 10 * gib,
                      .ram_bytes = 16 * gib,
                      .quiet = false};
    qs_progress_start(&p, true);
    qs_progress_step(&p, &step128);
    const char *text = drawn(master, f);
    ck_assert_msg(!strcmp(text, "\rstep 128/625  loss 1.8234  lr 1.96e-04  9,412 tok/s  ETA 1h\033[K"), "%s",
                  text + 1);
    qs_progress_visit(&p, 129, 1, 2); /* too soon: nothing */
    p.drawn_ns = 0;
    qs_progress_visit(&p, 129, 40, 80);
    text = drawn(master, f);
    ck_assert_msg(!strncmp(text, "\rstep 129/625  ==========----------  50%  loss", 45), "%s", text + 1);
    qs_progress_break(&p);
    ck_assert_str_eq(drawn(master, f), "\n");
    qs_progress_break(&p);
    fclose(f);
    close(master);
}
END_TEST

START_TEST(colour_is_only_for_terminals_that_want_it)
{
    for (int which = 0; which < 4; which++) {
        FILE *f;
        int master = terminal(200, &f);
        if (master < 0) return;
        if (which == 1) setenv("NO_COLOR", "1", 1);
        if (which == 3) setenv("TERM", "dumb", 1);
        qs_progress p;
        p = (qs_progress){.file = f,
                          .first_step = 126,
                          .total_steps = 625,
                          .logging_steps = 1,
                          .vram_bytes = 10 * gib,
                          .ram_bytes = 16 * gib,
                          .quiet = false};
        qs_progress_start(&p, which == 2);
        qs_progress_step(&p, &step128);
        ck_assert_int_eq(strstr(drawn(master, f), "\033[2m") != NULL, which == 0);
        fclose(f);
        close(master);
    }
}
END_TEST

START_TEST(colour_codes_do_not_count_as_width)
{
    FILE *f;
    int master = terminal(60, &f);
    if (master < 0) return;
    qs_progress p;
    p = (qs_progress){.file = f,
                      .first_step = 126,
                      .total_steps = 625,
                      .logging_steps = 100,
                      .vram_bytes = 10 * gib,
                      .ram_bytes = 16 * gib,
                      .quiet = false};
    qs_progress_start(&p, false);
    qs_progress_step(&p, &step128);
    char plain[512], *to = plain;
    for (const char *c = drawn(master, f); *c; c++) {
        if (*c == '\033')
            c += strcspn(c, "mK");
        else
            *to++ = *c;
    }
    *to = '\0';
    ck_assert_str_eq(plain, "\rstep 128/625  loss 1.8234  lr 1.96e-04  9,412 tok/s  ETA 1h");
    fclose(f);
    close(master);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("progress");
    TCase *t = tcase_create("progress");
    tcase_add_test(t, a_file_gets_plain_lines_at_logging_steps);
    tcase_add_test(t, the_last_step_is_always_shown_and_quiet_shows_none);
    tcase_add_test(t, a_terminal_has_one_line_rewritten_that_never_wraps);
    tcase_add_test(t, colour_is_only_for_terminals_that_want_it);
    tcase_add_test(t, colour_codes_do_not_count_as_width);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
