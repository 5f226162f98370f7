// SPDX-License-Identifier: BSL-1.0
/// Two processes with the two ends of a stream pair, and what they send each other.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cohort/ipc/channel_pair.hpp>
#include "cohort/ipc/channel.hpp"

#include "../support.hpp"

namespace cohort::bench {

struct small {  // 64 bytes of fields
  std::uint64_t a[8] = {1, 2, 3, 4, 5, 6, 7, 8};
};
struct large {
  std::string bytes;
};
struct token {
  std::uint32_t number = 0;
};

using message = std::variant<small, large, token>;
using both_ways = channel<message, message>;

inline large large_of(std::size_t size) {
  large result;
  result.bytes.assign(size, 'x');
  return result;
}

[[noreturn]] inline void die(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

enum class where { same_core, two_cores };

/// Runs `job` in a process of its own, on that processor.
inline pid_t start_on(unsigned processor, const std::function<void()>& job) {
  const pid_t pid = ::fork();
  if (pid < 0) die("fork");
  if (pid != 0) return pid;
  pin(processor);
  job();
  std::_Exit(0);
}

/// Runs both in processes of their own, on one processor or on two; returns what `mine` returns.
inline double in_two_processes(where place, const std::function<void()>& theirs, const std::function<double()>& mine) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) die("pipe");
  const descriptor from(ends[0]), to(ends[1]);
  const pid_t second = start_on(place == where::same_core ? 0 : 1, theirs);
  const pid_t first = start_on(0, [&] {
    const double figure = mine();
    if (::write(to.get(), &figure, sizeof figure) != sizeof figure) die("write");
  });
  for (int ended = 0; ended < 2; ++ended) {
    int status = 0;
    ::wait(&status);
    if (status == 0) continue;
    // the other one would wait for ever
    ::kill(first, SIGKILL);
    ::kill(second, SIGKILL);
    die("a process of the benchmark has failed");
  }
  double figure = 0;
  if (::read(from.get(), &figure, sizeof figure) != sizeof figure) die("read");
  return figure;
}

/// The same, each with its end of a stream pair, which it is to close.
inline double between(where place, const std::function<void(int)>& theirs, const std::function<double(int)>& mine) {
  const auto ends = make_channel_pair();
  return in_two_processes(
      place,
      [&] {
        ::close(ends.first.get());
        theirs(ends.second.get());
      },
      [&] {
        ::close(ends.second.get());
        return mine(ends.first.get());
      });
}

/// What carries the messages of all channels; the raw side has the socket.
inline transport carrier = transport::socket;

/// Runs a coroutine over a channel on a socket to its end.
inline void over_channel(int socket, const std::function<asio::awaitable<void>(both_ways&)>& body) {
  channel_options options;
  options.max_leases = 253;
  options.max_message = 128 * 1024 * 1024;
  options.transport = carrier;
  asio::io_context context(1);
  both_ways both(context.get_executor(), descriptor(socket), options);
  asio::co_spawn(context, body(both), [](std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
  });
  context.run();
}

/// Prints the median of five runs of both, in turn.
inline void compare(const std::string& what, const std::function<double()>& ours, const std::string& other,
                    const std::function<double()>& theirs) {
  const std::vector<std::function<double()>> jobs{ours, theirs};
  const auto figures = alternate(5, jobs);
  fmt::print("{}: {:.3f} µs ({:.0f}/s), {} {:.3f} µs ({:.0f}/s), rate {:.2f} x {}\n", what, figures[0],
             1e6 / figures[0], other, figures[1], 1e6 / figures[1], figures[1] / figures[0], other);
  std::fflush(stdout);
}

}  // namespace cohort::bench
