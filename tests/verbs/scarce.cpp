// SPDX-License-Identifier: BSL-1.0
// Each main scene of the library, again and again, with one request for memory refused: the first, the second, and so
// on to the last one that the scene makes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <stdexcept>
#include <string>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scarcity.hpp"
#include "scenes.hpp"
#include "verb.hpp"

namespace cohort::test::scarce_verbs {
namespace {

enum outcome { worked, failed, out_of_run, out_of_reach, not_reached, outcomes };

const std::string outcome_names[] = {"worked all the same", "an error of an operation", "an error of the loop",
                                     "not refused"};

std::size_t descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), std::filesystem::directory_iterator()));
}

[[noreturn]] void fall_through(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  ::_exit(100);
}

outcome run_loop(const scene& which) {
  std::exception_ptr failure;
  bool ended = false, thrown_out = false;
  try {
    asio::io_context context(1);
    try {
      asio::co_spawn(context, which.run(), [&](std::exception_ptr thrown) {
        failure = thrown;
        ended = true;
      });
      context.run();
    } catch (...) {
      thrown_out = true;
      failure = std::current_exception();
    }
  } catch (const std::bad_alloc&) {
    return out_of_run;
  }
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::logic_error& error) {
    fall_through(error.what());
  } catch (const std::exception& error) {
    if (std::getenv("COHORT_TEST_SCARCITY_TRACE") != nullptr) std::fprintf(stderr, "became: %s\n", error.what());
    return thrown_out ? out_of_run : failed;
  } catch (...) {
    return thrown_out ? out_of_run : failed;
  }
  if (!ended) fall_through("the loop has ended before the scene");
  return worked;
}

[[noreturn]] void run_case(const scene& which, std::uint64_t n) {
  ::alarm(patience_s);
  mark = (std::filesystem::temp_directory_path() / ("cohort-scarce-" + std::to_string(::getpid()))).string();
  ::setenv(count_variable, std::to_string(n).c_str(), 1);
  const std::size_t before = descriptors();
  if (!which.refuses_itself) scarcity::refuse(n);
  outcome became = run_loop(which);
  const bool reached = which.refuses_itself ? ::unlink(mark.c_str()) == 0 : scarcity::has_refused();
  if (scarcity::is_out_of_reach()) ::_exit(out_of_reach);
  scarcity::refuse(0);
  const std::size_t after = descriptors();
  if (after != before) fall_through("descriptors: " + std::to_string(before) + " before, " + std::to_string(after));
  siginfo_t info;
  if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0) fall_through("a child is left");
  if (!reached && became != worked) fall_through("it fails without a reason");
  ::_exit(reached ? became : not_reached);
}

/// Ends what a case has left, whose children are this process's now.
bool has_left_processes() {
  bool any = false;
  for (int tries = 0;; ++tries) {
    const pid_t gone = ::waitpid(-1, nullptr, WNOHANG | __WALL);
    if (gone < 0) return any;
    if (gone > 0) continue;
    if (tries < 3000) {
      ::usleep(1000);
      continue;
    }
    any = true;
    std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
    for (pid_t child = 0; children >> child;) ::kill(child, SIGKILL);
    ::usleep(1000);
  }
}

outcome run_one(const scene& which, std::uint64_t n, bool& good) {
  const pid_t pid = ::fork();
  if (pid == 0) run_case(which, n);
  int status = 0;
  ::waitpid(pid, &status, 0);
  const bool left = has_left_processes();
  std::string trouble;
  if (WIFSIGNALED(status)) {
    trouble = WTERMSIG(status) == SIGALRM ? "it hangs" : "signal " + std::to_string(WTERMSIG(status));
  } else if (WEXITSTATUS(status) >= outcomes) {
    trouble = "exit status " + std::to_string(WEXITSTATUS(status));
  } else if (left) {
    trouble = "it has left processes that do not end";
  }
  if (trouble.empty()) return static_cast<outcome>(WEXITSTATUS(status));
  good = false;
  std::printf("%s, request %llu: %s\n", which.name, static_cast<unsigned long long>(n), trouble.c_str());
  return failed;
}

// `scarce SCENE [STEP [FIRST [LAST]]]`: each STEP-th request from FIRST on, until the scene makes no more. The last
// line says how many cases there were and what became of them.
const verb scarce("scarce", [](const verb::arguments& arguments) {
  const auto at = [&](std::size_t which, std::uint64_t otherwise) -> std::uint64_t {
    return arguments.size() > which ? std::stoull(arguments[which]) : otherwise;
  };
  const scene& which = scene_of(arguments.at(0));
  const std::uint64_t step = at(1, 1), first = at(2, 1), last = at(3, 1'000'000);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  scarcity::refuse(1'000'000'000);  // so that what this takes the first time is not part of a case
  scarcity::refuse(0);
  std::uint64_t cases = 0, counts[outcomes] = {};
  bool good = true;
  int not_reached_in_a_row = 0;
  for (std::uint64_t n = first; n <= last; n += step) {
    std::fflush(stdout);
    const auto became = run_one(which, n, good);
    // A worker may have been stopped before it came to that request.
    not_reached_in_a_row = became == not_reached ? not_reached_in_a_row + 1 : 0;
    if (not_reached_in_a_row == (which.refuses_itself ? 10 : 1)) break;
    if (became == not_reached) continue;
    ++cases;
    ++counts[became];
  }
  std::printf("%s: %llu cases", which.name, static_cast<unsigned long long>(cases));
  for (int each = 0; each < not_reached; ++each) {
    std::printf("; %s: %llu", outcome_names[each].c_str(), static_cast<unsigned long long>(counts[each]));
  }
  std::printf("\n");
  return good ? 0 : 1;
});

// `scarce-once SCENE`: the scene as it is, for whoever makes its system calls fail from outside. 0: it worked; 1: it
// ended with an error.
const verb once("scarce-once", [](const verb::arguments& arguments) {
  const scene& which = scene_of(arguments.at(0));
  const std::size_t before = descriptors();
  const outcome became = run_loop(which);
  if (descriptors() != before) fall_through("descriptors are left");
  siginfo_t info;
  if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0) fall_through("a child is left");
  return became == worked ? 0 : 1;
});

}  // namespace
}  // namespace cohort::test::scarce_verbs
