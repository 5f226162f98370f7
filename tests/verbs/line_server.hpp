// SPDX-License-Identifier: BSL-1.0
/// A small server for tests: a line is a request, and so is its answer.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/worker/worker.hpp"

namespace cohort::test {

inline asio::awaitable<void> wait_for(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

/// The numbers of descriptors that `fill-descriptors` has taken.
inline std::vector<int>& fillers() {
  static std::vector<int> taken;
  return taken;
}

/// Answers one request:
///
///     pid                 "PID SLOT"
///     echo TEXT           TEXT
///     slow MS             "slow done", after that time
///     busy MS             "busy done", after a time in which the process does nothing else
///     hold                "holding" at once, and "hold done" when the client has sent another line: busy meanwhile
///     patient             waits until it is cancelled, then "cancelled"
///     stubborn MS         "stubborn done", and is not to be cancelled
///     fatal  odd          throws an exception, or something else
///     code N              throws the errno as a system_error
///     abort  exit N       ends the process
///     environment NAME    the variable's value, or "(none)"
///     count NAME N        "count done", and the counter of that name has N more
///     in-service          "yes" or "no": worker::in_service
///     drain  fail  leave  worker::drain, fail, do_not_restart
///     shout               drains with a reason that is no line of a log
///     fork MS             the pid of a process that holds all that this one does, for that time
///     process PID         "alive", "zombie" or "gone"
///     shutdown-listeners  calls shutdown(2) on every listening socket that it has
///     fill-descriptors    takes all descriptors that are left, but gives them back after 200 ms
///     leak-descriptors    takes all descriptors that are left
inline asio::awaitable<std::string> answer_to(const std::string& request, worker& self) {
  std::istringstream words(request);
  std::string verb;
  long number = 0;
  words >> verb;
  if (verb == "echo") co_return request.substr(request.find(' ') + 1);
  if (verb == "environment") {
    std::string name;
    words >> name;
    const char* const value = std::getenv(name.c_str());
    co_return value != nullptr ? value : "(none)";
  }
  if (verb == "count") {
    std::string name;
    words >> name >> number;
    self.counter(name).add(static_cast<std::uint64_t>(number));
    co_return "count done";
  }
  words >> number;
  const std::chrono::milliseconds time(number);
  if (verb == "in-service") co_return self.in_service() ? "yes" : "no";
  if (verb == "pid") co_return std::to_string(::getpid()) + " " + std::to_string(self.slot());
  if (verb == "slow") {
    co_await wait_for(time);
  } else if (verb == "busy") {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
    }
  } else if (verb == "patient") {
    try {
      co_await wait_for(std::chrono::hours(1));
    } catch (...) {
      if (detail::caught().code() != operation_aborted()) throw;
    }
    co_await asio::this_coro::reset_cancellation_state();
    co_return "cancelled";
  } else if (verb == "stubborn") {
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await wait_for(time);
  } else if (verb == "fatal") {
    throw std::runtime_error("a fatal request");
  } else if (verb == "odd") {
    throw 42;
  } else if (verb == "code") {
    throw std::system_error(static_cast<int>(number), std::system_category(), "request");
  } else if (verb == "abort") {
    std::abort();
  } else if (verb == "exit") {
    std::_Exit(static_cast<int>(number));
  } else if (verb == "drain") {
    self.drain("a client wants it");
  } else if (verb == "fail") {
    self.fail("a client says so");
  } else if (verb == "shout") {
    self.drain("\033[2J\nworker 7 ready" + std::string(10'000, '!'));
  } else if (verb == "leave") {
    self.do_not_restart("a client wants no other");
  } else if (verb == "fork") {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::usleep(static_cast<useconds_t>(number * 1000));
      ::_exit(0);
    }
    co_return std::to_string(pid);
  } else if (verb == "process") {
    std::ifstream file("/proc/" + std::to_string(number) + "/stat");
    std::string text;
    if (!std::getline(file, text)) co_return "gone";
    co_return text[text.rfind(')') + 2] == 'Z' ? "zombie" : "alive";
  } else if (verb == "shutdown-listeners") {
    for (int fd = 3; fd < 100; ++fd) {
      int listens = 0;
      socklen_t size = sizeof listens;
      if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0) ::shutdown(fd, SHUT_RDWR);
    }
  } else if (verb == "fill-descriptors" || verb == "leak-descriptors") {
    for (int fd; (fd = ::fcntl(0, F_DUPFD_CLOEXEC, 3)) >= 0;) fillers().push_back(fd);
    if (verb == "leak-descriptors") co_return "leak-descriptors done";
    const auto timer = std::make_shared<asio::steady_timer>(self.get_executor(), std::chrono::milliseconds(200));
    timer->async_wait([timer](std::error_code) {
      for (const int fd : std::exchange(fillers(), {})) ::close(fd);
    });
  } else {
    co_return "what is \"" + request + "\"?";
  }
  co_return verb + " done";
}

/// Answers "hold". It reads without worker::readable(), so that for the worker this connection is busy and not idle.
template <class Socket>
asio::awaitable<std::string> hold(Socket& socket, std::string& buffer) {
  const std::string begun = "holding\n";
  co_await socket.async_send(asio::buffer(begun), asio::use_awaitable);
  auto end = buffer.find('\n');
  while (end == std::string::npos) {
    char piece[512];
    const auto size = co_await socket.async_read_some(asio::buffer(piece), asio::use_awaitable);
    buffer.append(piece, size);
    end = buffer.find('\n');
  }
  buffer.erase(0, end + 1);
  co_return "hold done";
}

/// Serves requests until the client closes, or the worker drains.
template <class Socket>
asio::awaitable<void> serve_lines_on(Socket socket, worker& self) {
  std::string buffer;
  do {
    auto end = buffer.find('\n');
    while (end == std::string::npos) {
      const bool more = co_await self.readable(socket);
      if (!more) co_return;
      char piece[512];
      const auto size = co_await socket.async_read_some(asio::buffer(piece), asio::use_awaitable);
      buffer.append(piece, size);
      end = buffer.find('\n');
    }
    const std::string request = buffer.substr(0, end);
    buffer.erase(0, end + 1);
    std::string answer;
    if (request == "hold") {
      answer = co_await hold(socket, buffer);
    } else {
      answer = co_await answer_to(request, self);
    }
    answer += '\n';
    co_await socket.async_send(asio::buffer(answer), asio::use_awaitable);
  } while (!self.draining());
}

inline asio::awaitable<void> serve_lines(asio::ip::tcp::socket socket, worker& self) {
  return serve_lines_on(std::move(socket), self);
}

/// For connections of every kind.
inline asio::awaitable<void> serve_any_lines(asio::generic::stream_protocol::socket socket, worker& self) {
  return serve_lines_on(std::move(socket), self);
}

}  // namespace cohort::test
