// SPDX-License-Identifier: BSL-1.0
#include "one_way.hpp"

#include "benchmarks.hpp"
#include "raw.hpp"

namespace cohort::bench {
namespace {

double raw_one_way(std::size_t size, std::size_t a_write, int count) {
  return between(
      where::two_cores,
      [&](int socket) {
        raw_end end(socket);
        std::vector<char> bytes(256 * 1024);
        const std::size_t all = size * static_cast<std::size_t>(count);
        for (std::size_t got = 0; got < all;) got += end.read(bytes.data(), bytes.size());
        end.write("!", 1);
      },
      [&](int socket) {
        raw_end end(socket);
        const std::vector<char> bytes(size * a_write, 'x');
        const auto begin = clock::now();
        for (int i = 0; i < count; i += static_cast<int>(a_write)) end.write(bytes.data(), bytes.size());
        char done = 0;
        end.read_all(&done, 1);
        return elapsed(begin) / count;
      });
}

}  // namespace

void one_way() {
  const small least;
  constexpr std::size_t mib = 1024 * 1024;
  const auto raw = [](std::size_t size, std::size_t a_write, int count) {
    return [=] { return raw_one_way(size, a_write, count); };
  };
  compare(
      "one way, 64 B, send each", [&] { return one_way(least, how::send, 300'000); }, "raw", raw(64, 1, 300'000));
  compare(
      "one way, 64 B, post (raw: 1024 a write)", [&] { return one_way(least, how::post, 4'096'000); }, "raw",
      raw(64, 1024, 4'096'000));
  compare(
      "one way, 64 B, send_many (raw: 1024 a write)", [&] { return one_way(least, how::send_many, 4'096'000); }, "raw",
      raw(64, 1024, 4'096'000));
  const large one_mib = large_of(mib);
  compare(
      "one way, 1 MiB, send", [&] { return one_way(one_mib, how::send, 1'000); }, "raw", raw(mib, 1, 1'000));
  const large many_mib = large_of(64 * mib);
  compare(
      "one way, 64 MiB, send", [&] { return one_way(many_mib, how::send, 16); }, "raw", raw(64 * mib, 1, 16));
}

}  // namespace cohort::bench
