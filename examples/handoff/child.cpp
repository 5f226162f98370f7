// SPDX-License-Identifier: BSL-1.0
// Answers the connections that its parent gives it, and those of the listener that the parent shares with it, until the
// parent disconnects or is gone.

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include <cohort/core/task_group.hpp>
#include <cohort/core/timeout.hpp>
#include <cohort/ipc/peer.hpp>

#include "answer.hpp"
#include "protocol.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace std::chrono_literals;

class server {
 public:
  server(asio::any_io_executor executor, std::string_view name)
      : name_(name),
        parent_(cohort::parent<protocol>(executor)),
        acceptor_(executor),
        background_(executor),
        answers_(executor) {}

  awaitable<void> run() {
    const auto executor = co_await asio::this_coro::executor;
    while (auto given = co_await parent_.receive_handle()) {
      if (std::holds_alternative<share>(given->message)) {
        acceptor_ = std::move(given->handle).as<tcp::acceptor>(executor);
        start(background_, accept());
      } else {
        start(answers_, answer_one(std::move(given->handle).as<tcp::socket>(executor)));
      }
    }
    acceptor_.close();
    co_await background_.wait_empty();
    co_await answers_.wait_empty();
  }

 private:
  awaitable<void> accept() {
    while (acceptor_.is_open()) {
      auto socket = co_await acceptor_.async_accept(use_awaitable);
      start(answers_, answer_one(std::move(socket)));
    }
  }

  awaitable<void> answer_one(tcp::socket socket) {
    co_await cohort::with_timeout(answer(std::move(socket), name_), 5s);
    co_await parent_.send<answered>();
  }

  static void start(cohort::task_group& group, awaitable<void> work) {
    group.start(std::move(work), [](std::exception_ptr failure) {
      try {
        if (failure) std::rethrow_exception(failure);
      } catch (const std::system_error&) {
        // The connection has failed, or the listener was closed, or the parent listens no more.
      }
    });
  }

  std::string name_;
  cohort::channel<protocol::to_parent, protocol::to_child> parent_;
  tcp::acceptor acceptor_;
  cohort::task_group background_;
  cohort::task_group answers_;
};

int main(int argc, char* argv[]) {
  try {
    asio::io_context context(1);
    server self(context.get_executor(), argc > 1 ? argv[1] : "child");
    asio::co_spawn(context, self.run(), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
    context.run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "child: {}\n", error.what());
    return 1;
  }
}
