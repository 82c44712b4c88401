/* log.h - messages for the person at the terminal: stderr, one line each, levels off by default above `info`.
 *
 * Results (tables, plans, generated text) are printed by the commands on stdout; everything else goes through
 * here.
 */
#ifndef QS_BASE_LOG_H
#define QS_BASE_LOG_H

typedef enum qs_log_level { QS_LOG_ERROR, QS_LOG_WARN, QS_LOG_INFO, QS_LOG_DEBUG } qs_log_level;

/* Messages above this level are dropped. Set once by main from --verbose / --quiet; default QS_LOG_INFO. */
void qs_log_set_level(qs_log_level level);

/* Prints "warning: ..." / plain text and a newline on stderr. Thread safe (one write per line). */
void qs_log(qs_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define qs_warn(...) qs_log(QS_LOG_WARN, __VA_ARGS__)
#define qs_info(...) qs_log(QS_LOG_INFO, __VA_ARGS__)
#define qs_debug(...) qs_log(QS_LOG_DEBUG, __VA_ARGS__)

#endif
