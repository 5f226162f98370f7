// SPDX-License-Identifier: BSL-1.0
// Microseconds for each handle.
#include <vector>

#include <fcntl.h>

#include "cohort/core/task_group.hpp"

#include "benchmarks.hpp"
#include "raw.hpp"

namespace cohort::bench {
namespace {

descriptor passed() { return descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

double raw_handles(std::size_t a_write, int count) {
  return between(
      where::two_cores,
      [&](int socket) {
        raw_end end(socket);
        end.read_handles(static_cast<std::size_t>(count));
        end.write("!", 1);
      },
      [&](int socket) {
        raw_end end(socket);
        const descriptor object = passed();
        const std::vector<int> fds(a_write, object.get());
        const auto begin = clock::now();
        for (int i = 0; i < count; i += static_cast<int>(a_write)) end.write_handles(fds);
        char done = 0;
        end.read_all(&done, 1);
        return elapsed(begin) / count;
      });
}

/// One descriptor there, one byte back, and only then the next: what a lease is, by hand.
double raw_handles_answered(int count) {
  return between(
      where::same_core,
      [&](int socket) {
        raw_end end(socket);
        for (int i = 0; i < count; ++i) {
          end.read_handles(1);
          end.write("!", 1);
        }
      },
      [&](int socket) {
        raw_end end(socket);
        const descriptor object = passed();
        const int fds[] = {object.get()};
        const auto begin = clock::now();
        for (int i = 0; i < count; ++i) {
          end.write_handles(fds);
          char done = 0;
          end.read_all(&done, 1);
        }
        return elapsed(begin) / count;
      });
}

asio::awaitable<void> take_handles(both_ways& both) {
  while (auto got = co_await both.receive_handle()) {
  }
}

/// Runs `give(channel)` against a process that takes handles.
double giving(where place, int count, const std::function<asio::awaitable<void>(both_ways&)>& give) {
  return between(
      place, [](int socket) { over_channel(socket, take_handles); },
      [&](int socket) {
        double figure = 0;
        over_channel(socket, [&](both_ways& both) -> asio::awaitable<void> {
          const auto begin = clock::now();
          co_await give(both);
          figure = elapsed(begin) / count;
          co_await both.disconnect();
        });
        return figure;
      });
}

asio::awaitable<void> lend(both_ways& both, const descriptor& object, int count) {
  const token what;
  for (int i = 0; i < count; ++i) co_await both.send_handle(what, object);
}

/// So many coroutines, each of which gives one after the other.
asio::awaitable<void> lend_beside(both_ways& both, int coroutines, int count) {
  const descriptor object = passed();
  task_group lenders(both.get_executor());
  for (int i = 0; i < coroutines; ++i) {
    lenders.start(lend(both, object, count / coroutines), [](std::exception_ptr failure) {
      if (failure) std::rethrow_exception(failure);
    });
  }
  co_await lenders.wait_empty();
}

/// So many at once with send_handles(), which gives them away: each is a descriptor of its own.
asio::awaitable<void> give_batches(both_ways& both, std::size_t batch, int count) {
  const token what;
  const descriptor object = passed();
  for (int given = 0; given < count; given += static_cast<int>(batch)) {
    std::vector<descriptor> some;
    for (std::size_t i = 0; i < batch; ++i) some.emplace_back(::fcntl(object.get(), F_DUPFD_CLOEXEC, 0));
    const auto failures = co_await both.send_handles(what, some);
    if (failures.front()) die("send_handles");
  }
}

}  // namespace

void handles() {
  constexpr int few = 20'000, many = 204'800;
  const auto raw = [](std::size_t a_write) { return [a_write] { return raw_handles(a_write, many); }; };
  compare(
      "handles, one lease at a time, same core",
      [] { return giving(where::same_core, few, [](both_ways& both) { return lend_beside(both, 1, few); }); }, "raw",
      [] { return raw_handles_answered(few); });
  const auto pipelined = [] {
    return giving(where::two_cores, many, [](both_ways& both) { return lend_beside(both, 128, many); });
  };
  compare("handles, 128 leases in flight (raw: one a write)", pipelined, "raw", raw(1));
  compare("handles, 128 leases in flight (raw: 128 a write)", pipelined, "raw", raw(128));
  compare(
      "handles, send_handles of 128, made and closed too (raw: 128 a write)",
      [] { return giving(where::two_cores, many, [](both_ways& both) { return give_batches(both, 128, many); }); },
      "raw", raw(128));
}

}  // namespace cohort::bench
