// SPDX-License-Identifier: BSL-1.0
/// How messages that have been read become objects: what channel::receive() and its kin do. These hold the link and not
/// the channel, which may move or go while they wait.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "../../core/asio.hpp"
#include "../../core/scope.hpp"
#include "../handle.hpp"
#include "../loan.hpp"
#include "link.hpp"
#include "take_message.hpp"

namespace cohort {

/// A message that came with a handle.
template <class In>
struct received {
  In message;
  any_handle handle;
};

/// A message that came with a loan.
template <class In, class T>
struct received_loan {
  In message;
  loan_view<T> view;
};

namespace detail {

template <class In>
struct receiving {
  static asio::awaitable<std::optional<In>> one(std::shared_ptr<link> self) {
    link::check_open(self, "receive");
    if (!self->in().has_message()) co_await link::wait_message(self);
    std::optional<In> message;
    if (self->in().has_message()) {
      take_first_message(*self, message_slot(message));
    } else {
      self->check_end("receive");
    }
    co_return message;
  }

  static asio::awaitable<bool> into(std::shared_ptr<link> self, In& message) {
    link::check_open(self, "receive_into");
    if (!self->in().has_message()) {
      auto waiting = receive_into(self, landing_for(self->agreed(), message), message_slot(message));
      co_return co_await std::move(waiting);
    }
    take_first_message(*self, message_slot(message));
    co_return true;
  }

  static asio::awaitable<std::size_t> many(std::shared_ptr<link> self, std::vector<In>& messages, std::size_t most) {
    link::check_open(self, "receive_many");
    if (!self->in().has_message()) co_await link::wait_message(self);
    if (!self->in().has_message()) self->check_end("receive_many");
    const std::size_t count = take(*self, messages, std::max<std::size_t>(most, 1));
    while (messages.size() > count) messages.pop_back();
    co_return count;
  }

  static asio::awaitable<std::optional<received<In>>> lease(std::shared_ptr<link> self) {
    link::check_open(self, "receive_handle");
    if (!self->in().has_lease()) co_await link::wait_lease(self);
    std::optional<received<In>> result;
    if (!self->in().has_lease()) {
      self->check_end("receive_handle");
      co_return result;
    }
    std::optional<In> message;
    any_handle handle = take_first_lease(*self, message_slot(message));
    result.emplace(received<In>{std::move(*message), std::move(handle)});
    co_return result;
  }

  template <class T>
  static asio::awaitable<std::optional<received_loan<In, T>>> loan(std::shared_ptr<link> self) {
    link::check_open(self, "receive_loan");
    if (!self->borrowed().has_loan()) co_await link::wait_loan(self);
    std::optional<received_loan<In, T>> result;
    if (!self->borrowed().has_loan()) {
      self->check_end("receive_loan");
      co_return result;
    }
    std::optional<In> message;
    taken_loan taken = take_first_loan(*self, message_slot(message), loan_type_of<T>, type_name<T>());
    result.emplace(received_loan<In, T>{std::move(*message), loan_view<T>(std::move(taken.piece), taken.count)});
    co_return result;
  }

 private:
  static std::size_t take(link& self, std::vector<In>& messages, std::size_t most) {
    inbox& in = self.in();
    const bool was_full = self.is_full();
    const on_exit reads_on([&] { self.resume_reading(was_full); });
    std::size_t count = 0;
    try {
      for (; count < most && in.has_message(); ++count) {
        const bool known = knows_first_message(self);
        // What cannot be taken is thrown by the call that finds it in front.
        if (count != 0 && !known) break;
        if (messages.size() == count) messages.emplace_back();
        if (known && in.first_message().more != 0) {
          take_of_several(self, messages[count]);
        } else {
          take_first_message(self, message_slot(messages[count]));
        }
      }
    } catch (...) {
      if (count == 0) throw;
    }
    return count;
  }

  /// Takes the first of several messages that lie behind one another, which this program knows: it has no handles and
  /// no part elsewhere.
  static void take_of_several(link& self, In& message) {
    inbox& in = self.in();
    const auto& first = in.first_message();
    const auto number = self.agreed().incoming[wire::load(first.data, 2)];
    reader bytes(first.data + 2, first.size - 2);
    try {
      message_set<In>::decode(static_cast<std::size_t>(number), bytes, message);
    } catch (...) {
      self.reject(std::current_exception());
    }
    in.pop_of_several();
  }
};

}  // namespace detail
}  // namespace cohort
