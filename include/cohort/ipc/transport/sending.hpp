// SPDX-License-Identifier: BSL-1.0
/// How objects become messages that are on their way: what channel::send() and its kin do. These hold the link and not
/// the channel, which may move or go while they wait.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <ranges>
#include <type_traits>
#include <utility>

#include "../../core/asio.hpp"
#include "../codec/byte_buffer.hpp"
#include "../codec/schema.hpp"
#include "../loan.hpp"
#include "encoded_message.hpp"
#include "link.hpp"
#include "send_handles.hpp"

namespace cohort::detail {

template <class Out>
struct sending {
  template <class M>
  static constexpr std::size_t number_of = message_set<Out>::template index_of<M>;

  template <class M>
  static link::ticket append(link& self, const char* step, const M& message) {
    return self.out().append(wire::kind::message, [&](byte_buffer& to) {
      const std::size_t start = to.size();
      detail::put_message(to, number_of<M>, message);
      self.check_size(step, number_of<M>, to.size() - start);
    });
  }

  template <bool Give, class M>
  static asio::awaitable<void> any(const std::shared_ptr<link>& self, M& message) {
    if constexpr (std::is_trivially_copyable_v<M>) {
      return plain<!Give>(self, message);
    } else {
      constexpr std::size_t type = number_of<std::remove_const_t<M>>;
      auto encoded = Give ? detail::encode_now(0, type, message, true) : detail::encode_lent(type, message);
      if (encoded.handles.empty()) return link::send(self, "send", type, std::move(encoded));
      if constexpr (Give) {
        return detail::send_parcel(self, type, std::move(encoded), &let_go<M>, std::addressof(message));
      } else {
        return detail::send_parcel(self, type, std::move(encoded), nullptr, nullptr);
      }
    }
  }

  template <class M>
  static void let_go(void* message) {
    const M taken(std::move(*static_cast<M*>(message)));
  }

  template <bool Lent, class M>
  static asio::awaitable<void> plain(const std::shared_ptr<link>& self, const M& message) {
    if constexpr (std::is_trivially_copyable_v<M> && sizeof(M) <= 256) {
      return small<M>(self, message);
    } else {
      constexpr std::size_t type = number_of<M>;
      return link::send(self, "send", type,
                        Lent ? detail::encode_lent(type, message) : detail::encode_now(0, type, message));
    }
  }

  template <class M>
  static asio::awaitable<void> small(std::shared_ptr<link> self, M message) {
    link::check_open(self, "send");
    self->check_sendable("send", number_of<M>);
    const auto sent = append(*self, "send", message);
    self->flush_now();
    if (self->out().completed() < sent) co_await link::written(self, "send", sent, true);
  }

  template <class Range>
  static asio::awaitable<std::size_t> range(std::shared_ptr<link> self, Range& messages) {
    using M = std::ranges::range_value_t<Range>;
    link::check_open(self, "send_many");
    auto next = std::ranges::begin(messages);
    const auto end = std::ranges::end(messages);
    const auto fill = [&] {
      while (next != end) {
        self->check_sendable("send_many", number_of<M>);
        const M& each = *next;
        append(*self, "send_many", each);
        ++next;
        if (self->out().waiting_bytes() >= link::flush_at) return true;
      }
      return false;
    };
    co_return co_await link::send_many(self, std::ref(fill));
  }

  template <class T>
  static asio::awaitable<cohort::loan<T>> loan(std::shared_ptr<link> self, std::size_t count) {
    static_assert(loan_type_of<T>.size == sizeof(T));
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    auto piece = co_await link::lend(self, count > most / sizeof(T) ? most : count * sizeof(T));
    co_return cohort::loan<T>(std::move(piece), count);
  }
};

}  // namespace cohort::detail
