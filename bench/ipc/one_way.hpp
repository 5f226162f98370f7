// SPDX-License-Identifier: BSL-1.0
/// As many messages as go, until the receiver has them all: microseconds for each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "setting.hpp"

namespace cohort::bench {

enum class how { send, post, send_many };
enum class taking { receive, receive_into, receive_many };

inline asio::awaitable<void> count_up(both_ways& both, taking way, int count) {
  message reused;
  std::vector<message> some;
  for (int i = 0; i < count;) {
    if (way == taking::receive) {
      const auto got = co_await both.receive();
      if (!got) die("receive");
      ++i;
    } else if (way == taking::receive_into) {
      const bool came = co_await both.receive_into(reused);
      if (!came) die("receive_into");
      ++i;
    } else {
      const std::size_t came = co_await both.receive_many(some, 4096);
      if (came == 0) die("receive_many");
      i += static_cast<int>(came);
    }
  }
  co_await both.send<token>();
}

template <class M>
asio::awaitable<void> send_all(both_ways& both, const M& what, how way, int count) {
  if (way == how::send_many) {
    const std::vector<M> some(1024, what);
    for (int left = count; left > 0; left -= 1024) {
      const std::span part(some.data(), static_cast<std::size_t>(std::min(left, 1024)));
      co_await both.send_many(part);
    }
  } else {
    for (int i = 0; i < count; ++i) {
      if (way == how::send) {
        co_await both.send(what);
      } else {
        while (!both.post(what)) co_await both.flush();
      }
    }
  }
  auto done = co_await both.receive();
  if (!done) die("receive");
}

template <class M>
double one_way(const M& what, how way, taking other_way, int count) {
  return between(
      where::two_cores,
      [&](int socket) { over_channel(socket, [&](both_ways& both) { return count_up(both, other_way, count); }); },
      [&](int socket) {
        const auto begin = clock::now();
        over_channel(socket, [&](both_ways& both) { return send_all(both, what, way, count); });
        return elapsed(begin) / count;
      });
}

}  // namespace cohort::bench
