// SPDX-License-Identifier: BSL-1.0
/// One message there, one back: microseconds for a round trip.
#pragma once

#include <chrono>
#include <optional>

#include "setting.hpp"

namespace cohort::bench {

/// With `polls`, both sides look for input for a while before they sleep.
inline asio::awaitable<void> echo(both_ways& both, bool polls) {
  if (polls) both.poll_for(std::chrono::milliseconds(1));
  while (auto got = co_await both.receive()) {
    if (const auto* text = std::get_if<large>(&*got)) {
      co_await both.send(*text);
    } else {
      co_await both.send(std::get<small>(*got));
    }
  }
}

template <class M>
double ping_pong(where place, const M& what, int rounds, bool polls = false) {
  return between(
      place, [polls](int socket) { over_channel(socket, [polls](both_ways& both) { return echo(both, polls); }); },
      [&](int socket) {
        double figure = 0;
        over_channel(socket, [&](both_ways& both) -> asio::awaitable<void> {
          if (polls) both.poll_for(std::chrono::milliseconds(1));
          const auto begin = clock::now();
          for (int i = 0; i < rounds; ++i) {
            co_await both.send(what);
            auto back = co_await both.receive();
            if (!back) die("echo");
          }
          figure = elapsed(begin) / rounds;
          co_await both.disconnect();
        });
        return figure;
      });
}

}  // namespace cohort::bench
