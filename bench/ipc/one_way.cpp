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

struct row {
  std::string name;
  how sends;
  taking takes;
  std::size_t a_write;  // messages, of the raw side
};

template <class M>
void compare_with_raw(const std::string& size, const M& what, std::size_t bytes, int count, const row& way) {
  compare(
      "one way, " + size + ", " + way.name, [&] { return one_way(what, way.sends, way.takes, count); }, "raw",
      [&] { return raw_one_way(bytes, way.a_write, count); });
}

}  // namespace

void one_way() {
  const small least;
  constexpr std::size_t mib = 1024 * 1024;
  const std::string raw = " (raw: 1024 a write)";
  compare_with_raw("64 B", least, 64, 300'000, {"send each", how::send, taking::receive, 1});
  compare_with_raw("64 B", least, 64, 4'096'000, {"post" + raw, how::post, taking::receive, 1024});
  compare_with_raw("64 B", least, 64, 4'096'000, {"send_many" + raw, how::send_many, taking::receive, 1024});
  compare_with_raw("64 B", least, 64, 4'096'000,
                   {"send_many, receive_many" + raw, how::send_many, taking::receive_many, 1024});
  compare_with_raw("1 MiB", large_of(mib), mib, 1'000, {"send", how::send, taking::receive, 1});
  compare_with_raw("1 MiB", large_of(mib), mib, 1'000, {"send, receive_into", how::send, taking::receive_into, 1});
  const large many_mib = large_of(64 * mib);
  compare_with_raw("64 MiB", many_mib, 64 * mib, 16, {"send", how::send, taking::receive, 1});
  compare_with_raw("64 MiB", many_mib, 64 * mib, 16, {"send, receive_into", how::send, taking::receive_into, 1});
}

}  // namespace cohort::bench
