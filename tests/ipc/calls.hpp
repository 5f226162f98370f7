// SPDX-License-Identifier: BSL-1.0
/// What the tests of calls say to each other.
#pragma once

#include <string>
#include <variant>

#include "../../include/cohort/ipc/channel.hpp"

namespace cohort::test::questions {

struct twice {
  int number;
};
struct slowly {  ///< answered after so many steps of 1 ms, each of which is told
  int steps;
};
struct never {};
struct fails {
  std::string why;
};
struct echo {
  std::string text;
};
struct unanswered {};

struct number {
  int value;
};
struct text {
  std::string value;
};
struct step {
  int done;
};

struct calls_protocol {
  using to_child = std::variant<twice, slowly, never, fails, echo, unanswered>;
  using to_parent = std::variant<number, text, step>;
};

using asking = channel<calls_protocol::to_child, calls_protocol::to_parent>;
using answering = channel<calls_protocol::to_parent, calls_protocol::to_child>;

/// Answers all questions but `unanswered`, and counts.
struct answers {
  int* running = nullptr;
  int* cancelled = nullptr;
  int* most = nullptr;

  struct counted {
    explicit counted(const answers& a) : of(a) {
      if (of.running != nullptr) ++*of.running;
      if (of.most != nullptr && *of.running > *of.most) *of.most = *of.running;
    }
    ~counted() {
      if (of.running != nullptr) --*of.running;
    }
    const answers& of;
  };

  asio::awaitable<number> operator()(twice question) {
    const counted here(*this);
    co_return number{2 * question.number};
  }

  asio::awaitable<number> operator()(slowly question, caller<calls_protocol::to_parent>& who) {
    const counted here(*this);
    asio::steady_timer timer(co_await asio::this_coro::executor);
    for (int i = 1; i <= question.steps; ++i) {
      timer.expires_after(std::chrono::milliseconds(1));
      co_await timer.async_wait(asio::use_awaitable);
      const step so_far{i};
      co_await who.progress(so_far);
    }
    co_return number{question.steps};
  }

  asio::awaitable<number> operator()(never) {
    const counted here(*this);
    event forever(co_await asio::this_coro::executor);
    try {
      co_await forever.wait();
    } catch (const std::system_error&) {
      if (cancelled != nullptr) ++*cancelled;
      throw;
    }
    co_return number{0};
  }

  asio::awaitable<number> operator()(fails question) {
    co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    throw std::runtime_error(question.why);
  }

  asio::awaitable<text> operator()(echo question) { co_return text{std::move(question.text)}; }
};

}  // namespace cohort::test::questions
