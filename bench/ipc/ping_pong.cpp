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
  const auto one = [&](const std::string& how, where place, bool polls) {
    compare(
        "ping-pong, " + size + ", " + how, [&] { return ping_pong(place, what, rounds, polls); }, "raw",
        [&] { return raw_ping_pong(place, bytes, rounds, polls); });
  };
  one("same core", where::same_core, false);
  one("two cores", where::two_cores, false);
  one("two cores, polling", where::two_cores, true);
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
