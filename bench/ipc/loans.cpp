// SPDX-License-Identifier: BSL-1.0
// A message of 4 MiB by loan beside one of 64 B, over both transports: what is handed over is a number. Nobody fills
// the memory here but where the row says so.
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "benchmarks.hpp"
#include "one_way.hpp"
#include "ping_pong.hpp"

namespace cohort::bench {
namespace {

constexpr std::size_t lent_bytes = 4 * 1024 * 1024;

struct work {
  bool fills = false;  // the sender writes all of the memory, and the receiver reads it
};

asio::awaitable<void> lend(both_ways& both, work what) {
  auto memory = co_await both.loan<std::uint64_t>(lent_bytes / 8);
  if (what.fills) {
    std::uint64_t* const to = memory.data();
    for (std::size_t i = 0; i < memory.size(); ++i) to[i] = i;
  }
  const message with = token{1};
  co_await both.send(std::get<token>(with), std::move(memory));
}

asio::awaitable<void> borrow(both_ways& both, work what) {
  const auto got = co_await both.receive_loan<std::uint64_t>();
  if (!got) die("receive_loan");
  if (!what.fills) co_return;
  std::uint64_t sum = 0;
  for (const std::uint64_t each : got->view) sum += each;
  if (sum == 0) die("sum");
}

asio::awaitable<void> borrow_all(both_ways& both, work what, int count) {
  for (int i = 0; i < count; ++i) co_await borrow(both, what);
  co_await both.send<token>();
}

double loans_one_way(work what, int count) {
  return between(
      where::two_cores,
      [&](int socket) { over_channel(socket, [&](both_ways& both) { return borrow_all(both, what, count); }); },
      [&](int socket) {
        const auto begin = clock::now();
        over_channel(socket, [&](both_ways& both) -> asio::awaitable<void> {
          for (int i = 0; i < count; ++i) co_await lend(both, what);
          auto done = co_await both.receive();
          if (!done) die("receive");
        });
        return elapsed(begin) / count;
      });
}

asio::awaitable<void> lend_back(both_ways& both, work what, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    co_await borrow(both, what);
    co_await lend(both, what);
  }
  auto end = co_await both.receive();  // the other one is to have read it all
}

double loans_there_and_back(where place, work what, int rounds) {
  return between(
      place, [&](int socket) { over_channel(socket, [&](both_ways& both) { return lend_back(both, what, rounds); }); },
      [&](int socket) {
        double figure = 0;
        over_channel(socket, [&](both_ways& both) -> asio::awaitable<void> {
          const auto begin = clock::now();
          for (int i = 0; i < rounds; ++i) {
            co_await lend(both, what);
            co_await borrow(both, what);
          }
          figure = elapsed(begin) / rounds;
          co_await both.disconnect();
        });
        return figure;
      });
}

void over(transport what, const std::string& name) {
  carrier = what;
  const small least;
  compare(
      "4 MiB by loan, one way, " + name, [] { return loans_one_way({}, 50'000); }, "a message of 64 B",
      [&] { return one_way(least, how::send, taking::receive, 50'000); });
  for (const auto& [place, text] :
       {std::pair(where::same_core, "same core"), std::pair(where::two_cores, "two cores")}) {
    compare(
        std::string("4 MiB by loan, there and back, ") + text + ", " + name,
        [&] { return loans_there_and_back(place, {}, 5'000); }, "a message of 64 B",
        [&] { return ping_pong(place, least, 5'000); });
  }
  const large copied = large_of(lent_bytes);
  compare(
      "4 MiB by loan, written and read, one way, " + name, [] { return loans_one_way({true}, 1'000); },
      "a string that is sent and received into", [&] { return one_way(copied, how::send, taking::receive_into, 300); });
}

}  // namespace

void loans() {
  const transport before = carrier;
  over(transport::socket, "socket");
  over(transport::shared_memory, "shared memory");
  carrier = before;
}

}  // namespace cohort::bench
