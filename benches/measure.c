/* Runs a command and writes what it took to FILE: wall seconds, CPU seconds, peak resident bytes, exit status.
 *
 *   measure FILE PROGRAM [ARGUMENT...]
 *
 * Linux counts towards a program's peak memory the pages of the process that started it. Started by Python, nothing would ever
 * seem to need less than 10 MB; this is started in between and has less than 2 MB. CPU and peak include children that were
 * waited for. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

int main(int argc, char **argv) {
  if (argc < 3) return 125;
  struct timespec from, to;
  struct rusage used;
  int status;
  clock_gettime(CLOCK_MONOTONIC, &from);
  pid_t child = fork();
  if (child < 0) return 125;
  if (child == 0) {
    execvp(argv[2], argv + 2);
    _exit(127);
  }
  if (wait4(child, &status, 0, &used) != child) return 125;
  clock_gettime(CLOCK_MONOTONIC, &to);
  FILE *file = fopen(argv[1], "w");
  if (!file) return 125;
  fprintf(file, "%.6f %.6f %ld %d\n", (to.tv_sec - from.tv_sec) + (to.tv_nsec - from.tv_nsec) / 1e9,
          seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss * 1024,
          WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  return fclose(file) ? 125 : 0;
}
