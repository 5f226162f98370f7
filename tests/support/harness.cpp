// SPDX-License-Identifier: BSL-1.0
#include "harness.hpp"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <map>
#include <string_view>
#include <vector>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cohort::test {
namespace {

namespace fs = std::filesystem;

// Names the test in which the process dies: by a crash, or because it blocks the thread so that no deadline can pass.
class last_words {
 public:
  last_words() {
    test_ = doctest::getContextOptions()->currentTest->m_name;
    struct sigaction action = {};
    action.sa_handler = [](int signal) { speak(signal); };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    ::sigaction(SIGALRM, &action, nullptr);
    ::alarm(static_cast<unsigned>(patience.count()) + 5);
    if (sanitized) return;  // which says more, by handlers of its own
    for (const int crash : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV}) ::sigaction(crash, &action, nullptr);
  }
  last_words(const last_words&) = delete;
  ~last_words() { ::alarm(0); }

 private:
  static void say(const char* text) { (void)!::write(STDERR_FILENO, text, std::strlen(text)); }

  static void speak(int signal) {
    say(signal == SIGALRM ? "the thread is blocked in the test \"" : "the process dies in the test \"");
    say(test_);
    say("\"\n");
    ::raise(signal);
  }

  static inline const char* test_ = "";
};

using descriptors = std::map<int, std::string>;

descriptors open_descriptors() {
  descriptors open;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // the directory's own descriptor shows up in the listing, and is what it points to
    const auto target = fs::read_symlink(entry.path(), gone).string();
    if (gone || target == "/proc/" + std::to_string(::getpid()) + "/fd") continue;
    open.emplace(std::stoi(entry.path().filename().string()), target);
  }
  return open;
}

struct process {
  pid_t pid;
  char state;
  std::string name;
};

std::vector<process> children() {
  std::vector<process> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const auto pid = entry.path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string line;
    if (!std::getline(file, line)) continue;
    // "pid (name) state ppid …", and a name may hold anything (proc(5))
    const auto open = line.find('('), close = line.rfind(')');
    if (open == std::string::npos || close == std::string::npos) continue;
    if (std::atoi(line.c_str() + close + 4) != ::getpid()) continue;
    found.push_back({std::stoi(pid), line[close + 2], line.substr(open + 1, close - open - 1)});
  }
  return found;
}

bool has_children() {
  siginfo_t info;
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 || errno != ECHILD;
}

void expect_no_children() {
  if (!has_children()) return;
  for (const auto& child : children()) {
    const std::string kind = child.state == 'Z' ? "a zombie" : "a running child";
    FAIL_CHECK("the test leaves ", kind, ": ", child.pid, " (", child.name, ")");
    // or it would be found again by each test that follows
    ::kill(child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, __WALL);
  }
  if (has_children()) FAIL_CHECK("the test leaves a child that /proc does not show");
}

void expect_descriptors(const descriptors& before) {
  const auto after = open_descriptors();
  for (const auto& [fd, target] : after) {
    const auto known = before.find(fd);
    if (known == before.end() || known->second != target) {
      FAIL_CHECK("the test leaves descriptor ", fd, " open: ", target);
    }
  }
  for (const auto& [fd, target] : before) {
    if (!after.contains(fd)) FAIL_CHECK("the test has closed descriptor ", fd, ", not its own: ", target);
  }
}

void run_loop(const std::function<asio::awaitable<void>()>& body, const std::function<void()>& after_each_turn) {
  bool finished = false;
  std::exception_ptr failure;
  asio::io_context context;
  const auto end = std::chrono::steady_clock::now() + patience;
  asio::co_spawn(context, body(), [&](std::exception_ptr thrown) {
    finished = true;
    failure = thrown;
  });
  while (!finished && context.run_one_until(end) != 0) {
    if (after_each_turn) after_each_turn();
  }
  if (failure) std::rethrow_exception(failure);
  if (finished) return;
  if (std::chrono::steady_clock::now() >= end) {
    FAIL_CHECK("the test has not finished within ", patience.count(), " s");
  } else {
    FAIL_CHECK("the test was destroyed before it finished");
  }
}

}  // namespace

void run_plain(const std::function<void()>& body) {
  const auto before = open_descriptors();
  std::exception_ptr failure;
  try {
    const last_words words;
    body();
  } catch (...) {
    failure = std::current_exception();
  }
  expect_descriptors(before);
  expect_no_children();
  if (failure) std::rethrow_exception(failure);
}

void run_isolated(const std::function<asio::awaitable<void>()>& body, const std::function<void()>& after_each_turn) {
  run_plain([&] { run_loop(body, after_each_turn); });
}

std::string helper_path() {
  const char* path = std::getenv("COHORT_TEST_HELPER");
  if (path == nullptr) FAIL("COHORT_TEST_HELPER is not set: use `meson test`, or set it to the path of tests/helper");
  if (::access(path, X_OK) != 0) FAIL("COHORT_TEST_HELPER names no executable: ", path);
  return path;
}

}  // namespace cohort::test
