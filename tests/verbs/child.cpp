// SPDX-License-Identifier: BSL-1.0
// What tests of a child's descendants and of its output have a child do.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <system_error>

#include <sys/wait.h>
#include <unistd.h>

#include "verb.hpp"

namespace cohort::test::child_verbs {
namespace {

// One write for a line, so that lines of several processes do not mix (pipe(7)).
void say(const std::string& text) {
  const std::string line = text + '\n';
  (void)!::write(STDOUT_FILENO, line.data(), line.size());
}

void say_pid(const char* what) { say(std::string(what) + ' ' + std::to_string(::getpid())); }

pid_t fork_or_throw() {
  const pid_t pid = ::fork();
  if (pid == -1) throw std::system_error(errno, std::system_category(), "fork");
  return pid;
}

// Never longer than a test may take, whatever becomes of the test.
int stay() {
  for (int second = 0; second < 120; ++second) ::sleep(1);
  return 0;
}

std::string last_words;  // made before the signal, whose handler may not allocate

// Forks `width` children, they theirs, `depth` levels deep. Each says "node PID PARENT", and "term PID" before SIGTERM
// ends it.
const verb tree("tree", [](const verb::arguments& arguments) {
  int depth = std::stoi(arguments.at(0));
  const int width = std::stoi(arguments.at(1));
  for (int i = 0; depth > 0 && i < width; ++i) {
    if (fork_or_throw() != 0) continue;
    --depth;
    i = -1;
  }
  last_words = "term " + std::to_string(::getpid()) + '\n';
  std::signal(SIGTERM, [](int) {
    (void)!::write(STDOUT_FILENO, last_words.data(), last_words.size());
    std::_Exit(0);
  });
  say("node " + std::to_string(::getpid()) + ' ' + std::to_string(::getppid()));
  return stay();
});

// Starts a grandchild, says "left PID", and ends. The grandchild is in the group and session of the child ("group"), in
// a group of its own ("own"), or in a session of its own ("session"), and holds the output for so many milliseconds.
const verb leave("leave", [](const verb::arguments& arguments) {
  const auto& where = arguments.at(0);
  const long milliseconds = std::stol(arguments.at(1));
  int ready[2];
  if (::pipe(ready) == -1) return 1;
  if (fork_or_throw() == 0) {
    if (where == "own") ::setpgid(0, 0);
    if (where == "session") ::setsid();
    say_pid("left");
    ::close(ready[0]);
    ::close(ready[1]);
    ::usleep(static_cast<useconds_t>(milliseconds) * 1000);
    std::_Exit(0);
  }
  ::close(ready[1]);
  char end;
  (void)!::read(ready[0], &end, 1);  // the grandchild is where it is to be
  return 0;
});

// Has a child with a session of its own, which has a child: "moved PID". All stay.
const verb stray("stray", [](const verb::arguments&) {
  if (fork_or_throw() == 0) {
    ::setsid();
    if (fork_or_throw() == 0) say_pid("moved");
  }
  return stay();
});

// Forks a successor and ends, again and again: nobody in this chain lives long, and each has lost its parent.
const verb runner("runner", [](const verb::arguments&) {
  say_pid("running");
  const auto start = std::time(nullptr);
  while (std::time(nullptr) < start + 60) {
    if (fork_or_throw() != 0) std::_Exit(0);
  }
  return 0;
});

// Forks children that stay, as fast as it can, and says when there are the first ones.
const verb breeder("breeder", [](const verb::arguments& arguments) {
  const int most = std::stoi(arguments.at(0));
  for (int born = 0; born < most; ++born) {
    if (fork_or_throw() == 0) return stay();
    if (born == 3) say_pid("breeding");
  }
  return stay();
});

// Writes "1" to the output, "2" to the error output, and so on, unbuffered.
const verb alternate("alternate", [](const verb::arguments& arguments) {
  const int last = std::stoi(arguments.at(0));
  for (int i = 1; i <= last; ++i) {
    const auto line = std::to_string(i) + '\n';
    (void)!::write(i % 2 == 1 ? STDOUT_FILENO : STDERR_FILENO, line.data(), line.size());
  }
  return 0;
});

// Writes on and on.
const verb flood("flood", [](const verb::arguments&) {
  const std::string text(64 * 1024, 'x');
  while (::write(STDOUT_FILENO, text.data(), text.size()) > 0) {
  }
  return 0;
});

// Says "ready" and, however it is asked to end with SIGTERM, "asked" and stays.
const verb stubborn("stubborn", [](const verb::arguments&) {
  std::signal(SIGTERM, [](int) { (void)!::write(STDOUT_FILENO, "asked\n", 6); });
  say("ready");
  return stay();
});

}  // namespace
}  // namespace cohort::test::child_verbs
