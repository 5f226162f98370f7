// SPDX-License-Identifier: BSL-1.0
#include "ping_pong.hpp"

#include "benchmarks.hpp"
#include "raw.hpp"

namespace cohort::bench {
namespace {

double raw_ping_pong(where place, std::size_t size, int rounds, bool polls) {
  return between(
      place,
      [&](int socket) {
        raw_end end(socket, polls);
        std::vector<char> bytes(size);
        for (int i = 0; i < rounds; ++i) {
          end.read_all(bytes.data(), size);
          end.write(bytes.data(), size);
        }
      },
      [&](int socket) {
        raw_end end(socket, polls);
        std::vector<char> bytes(size, 'x');
        const auto begin = clock::now();
        for (int i = 0; i < rounds; ++i) {
          end.write(bytes.data(), size);
          end.read_all(bytes.data(), size);
        }
        return elapsed(begin) / rounds;
      });
}

template <class M>
void compare_with_raw(const std::string& size, const M& what, std::size_t bytes, int rounds) {
  const auto one = [&](const std::string& how, where place, talk_options options) {
    compare(
        "ping-pong, " + size + ", " + how, [&] { return ping_pong(place, what, rounds, options); }, "raw",
        [&] { return raw_ping_pong(place, bytes, rounds, options.polls); });
  };
  const talk_options plain, polling{true, false}, reusing{false, true}, both{true, true};
  one("same core", where::same_core, plain);
  one("two cores", where::two_cores, plain);
  one("two cores, polling", where::two_cores, polling);
  if (bytes < 64 * 1024) return;
  one("same core, receive_into", where::same_core, reusing);
  one("two cores, receive_into", where::two_cores, reusing);
  one("two cores, receive_into, polling", where::two_cores, both);
}

}  // namespace

void ping_pongs() {
  const small least;
  compare_with_raw("64 B", least, 64, 20'000);
  compare_with_raw("1 KiB", large_of(1024), 1024, 20'000);
  compare_with_raw("64 KiB", large_of(64 * 1024), 64 * 1024, 5'000);
  compare_with_raw("1 MiB", large_of(1024 * 1024), 1024 * 1024, 300);
}

}  // namespace cohort::bench
