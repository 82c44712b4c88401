/* main.c - dispatch; the only file that prints errors and exits. */
#include <stdio.h>

int main(int argc, char **argv)
{
    (void)argv;
    if (argc < 2) {
        fprintf(stderr, "usage: qlora-stream COMMAND [options]\n");
        return 2;
    }
    return 0;
}
