// SPDX-License-Identifier: BSL-1.0
// Listens, and leaves the work to its children step by step: the first connection is given to one of them, then they
// share the listener with their parent, and after a few answers have it to themselves. The port listens all the time.
//
//   handoff_parent [PORT] [--connections N]
//
// Ends at Ctrl-C or SIGTERM, or when N connections have been answered.

#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <signal.h>

#include <cohort/core/event.hpp>
#include <cohort/core/task_group.hpp>
#include <cohort/core/timeout.hpp>
#include <cohort/ipc/peer.hpp>
#include <cohort/net/stop_listening.hpp>

#include "answer.hpp"
#include "protocol.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;

constexpr unsigned answers_together = 5;

template <class... Arguments>
void say(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  fmt::print(text, std::forward<Arguments>(arguments)...);
  std::fflush(stdout);
}

class host {
 public:
  host(asio::any_io_executor executor, std::uint16_t port, unsigned connections)
      : acceptor_(executor, tcp::endpoint(asio::ip::address_v4::loopback(), port)),
        changed_(executor),
        background_(executor),
        own_answers_(executor),
        connections_(connections) {}

  awaitable<void> run() {
    say("listening on 127.0.0.1:{}\n", acceptor_.local_endpoint().port());
    start(background_, wait_for_signal());
    co_await start_children();

    co_await give_first_away();
    if (!stopping_) {
      co_await share_listener();
      start(background_, accept());
      co_await until(answers_together);
    }
    stop_listening();
    co_await until(connections_);

    co_await own_answers_.wait_empty();
    co_await stop_children();
    background_.cancel();
    co_await background_.wait_empty();
  }

 private:
  awaitable<void> start_children() {
    const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "handoff_child";
    int number = 0;
    for (auto& child : children_) {
      cohort::command command(program, fmt::format("child {}", ++number));
      child = co_await cohort::spawn<protocol>(std::move(command));
      say("child {} has pid {}\n", number, child.pid());
      start(background_, listen_to(child));
    }
  }

  awaitable<void> give_first_away() {
    std::error_code error;
    auto socket = co_await acceptor_.async_accept(asio::redirect_error(use_awaitable, error));
    if (error || stopping_) co_return;
    const take order{};
    try {
      co_await children_.front().send_handle(order, std::move(socket));
      say("child 1 has the first connection\n");
    } catch (const std::system_error& failure) {
      say("child 1 does not take the first connection: {}\n", failure.what());
    }
    // What was not taken is still ours.
    if (socket.is_open()) start(own_answers_, answer_here(std::move(socket)));
  }

  awaitable<void> share_listener() {
    const share order{};
    for (auto& child : children_) co_await child.send_handle(order, acceptor_);  // not moved, so it stays ours too
    say("parent and children listen\n");
  }

  awaitable<void> accept() {
    while (acceptor_.is_open()) {
      auto socket = co_await acceptor_.async_accept(use_awaitable);
      start(own_answers_, answer_here(std::move(socket)));
    }
  }

  awaitable<void> answer_here(tcp::socket socket) {
    co_await cohort::with_timeout(answer(std::move(socket), "parent"), 5s);
    count();
  }

  awaitable<void> listen_to(cohort::peer<protocol>& child) {
    while (const auto word = co_await child.receive()) count();
  }

  awaitable<void> wait_for_signal() {
    asio::signal_set signals(changed_.get_executor(), SIGINT, SIGTERM);
    co_await signals.async_wait(use_awaitable);
    stopping_ = true;
    if (acceptor_.is_open()) acceptor_.cancel();
    changed_.notify();
  }

  void count() {
    ++answers_;
    changed_.notify();
  }

  awaitable<void> until(unsigned answers) {
    while (!stopping_ && answers_ < answers) co_await changed_.wait();
  }

  void stop_listening() {
    cohort::stop_listening(acceptor_);
    say("the parent listens no more\n");
  }

  awaitable<void> stop_children() {
    for (auto& child : children_) co_await child.disconnect();
    for (auto& child : children_) {
      const auto pid = child.pid();
      const auto status = co_await child.stop(cohort::stop_policy(0, 10s));  // it knows; signal 0 only waits
      say("pid {} {}\n", pid, status);
    }
  }

  static void start(cohort::task_group& group, awaitable<void> work) {
    group.start(std::move(work), [](std::exception_ptr failure) {
      try {
        if (failure) std::rethrow_exception(failure);
      } catch (const std::system_error& error) {
        if (error.code() != asio::error::operation_aborted) say("{}\n", error.what());
      }
    });
  }

  tcp::acceptor acceptor_;
  std::array<cohort::peer<protocol>, 2> children_;
  cohort::event changed_;
  cohort::task_group background_;
  cohort::task_group own_answers_;
  unsigned answers_ = 0;
  unsigned connections_;
  bool stopping_ = false;
};

template <class Number>
bool parse_number(std::string_view text, Number& result) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  return error == std::errc() && end == text.data() + text.size();
}

int main(int argc, char* argv[]) {
  std::uint16_t port = 8000;
  unsigned connections = std::numeric_limits<unsigned>::max();
  bool good = true;
  for (int i = 1; i < argc; ++i) {
    if (argv[i] == std::string_view("--connections")) {
      good = good && i + 1 < argc && parse_number(argv[++i], connections);
    } else {
      good = good && parse_number(argv[i], port);
    }
  }
  if (!good) {
    fmt::print(stderr, "usage: handoff_parent [PORT] [--connections N]\n");
    return 2;
  }
  try {
    asio::io_context context(1);
    host server(context.get_executor(), port, connections);
    asio::co_spawn(context, server.run(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "handoff_parent: {}\n", error.what());
    return 1;
  }
}
