// SPDX-License-Identifier: BSL-1.0
// Without doctest's signal handlers: a crash must end the process as it would any other, and sanitizers report it.
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS
#define DOCTEST_CONFIG_IMPLEMENT
#include "doctest.hpp"

#include <cstdio>

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // what was said before a crash is not lost with a buffer
  return doctest::Context(argc, argv).run();
}
