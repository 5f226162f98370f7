// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "predecessor.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <system_error>
#include <utility>

#include <fcntl.h>

#include <fmt/format.h>

#include "../../core/asio_error.hpp"
#include "../../core/config.hpp"
#include "../../core/error.hpp"
#include "../../core/timeout.hpp"

namespace cohort {

namespace upgrade {

COHORT_INLINE bool asked_for() noexcept { return std::getenv(variable) != nullptr && has_parent(); }

COHORT_INLINE predecessor::predecessor(const asio::any_io_executor& executor) : channel_(parent<protocol>(executor)) {
  ::unsetenv(variable);
}

COHORT_INLINE asio::awaitable<std::vector<listener>> predecessor::listeners() {
  std::vector<listener> result;
  for (;;) {
    auto message = co_await channel_.receive();
    if (!message) throw_error("upgrade: the old primary is gone", errc::peer_closed);
    if (const auto* last = std::get_if<begin>(&*message)) {
      generation_ = last->generation;
      workers_ = last->workers;
      co_return result;
    }
    auto& next = std::get<listener>(*message);
    const bool more = !result.empty() && result.back().text == next.text && result.back().address == next.address;
    if (!more) {
      result.push_back(std::move(next));
    } else {
      for (auto& each : next.sockets) result.back().sockets.push_back(std::move(each));
    }
  }
}

COHORT_INLINE asio::awaitable<void> predecessor::dismiss(std::vector<std::string> texts) {
  serving word;
  word.texts = std::move(texts);
  try {
    co_await channel_.send(word);
    co_await with_timeout(channel_.disconnect(), std::chrono::seconds(1));
  } catch (...) {
    const auto error = detail::caught();
    if (error.code() == operation_aborted()) throw;
    // It is gone, and what it had is left to us alone.
  }
  channel_.close();
}

COHORT_INLINE asio::awaitable<void> hand_over(peer<protocol>& to, listener what, const std::vector<int>& sockets) {
  constexpr std::size_t at_a_time = 128;  // one message carries 253 descriptors at most (SCM_MAX_FD, unix(7))
  for (std::size_t begin = 0; begin < sockets.size(); begin += at_a_time) {
    listener part;
    part.text = what.text;
    part.address = what.address;
    part.file = what.file;
    part.inherited = what.inherited;
    for (std::size_t i = begin; i < std::min(begin + at_a_time, sockets.size()); ++i) {
      descriptor copy(::fcntl(sockets[i], F_DUPFD_CLOEXEC, 3));
      if (!copy) throw_error(fmt::format("upgrade: copy of {}", what.address), errno);
      part.sockets.emplace_back(std::move(copy));
    }
    co_await to.send(part);
  }
}

}  // namespace upgrade

}  // namespace cohort
