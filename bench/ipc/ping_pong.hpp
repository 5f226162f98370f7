// SPDX-License-Identifier: BSL-1.0
/// One message there, one back: microseconds for a round trip.
#pragma once

#include <chrono>
#include <optional>

#include "setting.hpp"

namespace cohort::bench {

struct talk_options {
  bool polls = false;   // both sides look for input for a while before they sleep
  bool reuses = false;  // both sides receive into an object that they keep
};

inline asio::awaitable<void> answer(both_ways& both, const message& got) {
  if (const auto* text = std::get_if<large>(&got)) {
    co_await both.send(*text);
  } else {
    co_await both.send(std::get<small>(got));
  }
}

inline asio::awaitable<void> echo(both_ways& both, talk_options options) {
  if (options.polls) both.poll_for(std::chrono::milliseconds(1));
  if (options.reuses) {
    message got;
    while (co_await both.receive_into(got)) co_await answer(both, got);
  } else {
    while (auto got = co_await both.receive()) co_await answer(both, *got);
  }
}

template <class M>
asio::awaitable<double> ask(both_ways& both, const M& what, int rounds, talk_options options) {
  if (options.polls) both.poll_for(std::chrono::milliseconds(1));
  message back;
  const auto begin = clock::now();
  for (int i = 0; i < rounds; ++i) {
    co_await both.send(what);
    bool came = true;
    if (options.reuses) {
      came = co_await both.receive_into(back);
    } else {
      const auto got = co_await both.receive();
      came = got.has_value();
    }
    if (!came) die("echo");
  }
  const double figure = elapsed(begin) / rounds;
  co_await both.disconnect();
  co_return figure;
}

template <class M>
double ping_pong(where place, const M& what, int rounds, talk_options options = {}) {
  return between(
      place, [=](int socket) { over_channel(socket, [=](both_ways& both) { return echo(both, options); }); },
      [&](int socket) {
        double figure = 0;
        over_channel(socket, [&](both_ways& both) -> asio::awaitable<void> {
          figure = co_await ask(both, what, rounds, options);
        });
        return figure;
      });
}

}  // namespace cohort::bench
