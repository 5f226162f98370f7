// SPDX-License-Identifier: BSL-1.0
/// Messages among the processes of a cluster, each figure beside the raw system calls for the same job in the same run.
///
/// A round trip: a worker sends 64 bytes to another one, whose listener hears them, and has its receipt. Through the
/// primary these are four hops, directly they are two, as for the raw ping-pong between two processes, with epoll on
/// both sides. "32 in flight": so many coroutines, each with its own round trips; the raw side has the 32 messages in
/// one write each way.
///
/// A broadcast: the primary sends 64 bytes to all workers, and has its receipt. The raw side writes to as many socket
/// pairs, and reads an answer from each.
///
///     bench_messenger [round-trips | broadcasts | broadcasts-2 | broadcasts-8 | broadcasts-32]    all if none is named
///
/// Everything on one processor, but for "two cores": there the worker that answers has the other one for itself.
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>
#include <sys/wait.h>

#include "cohort/cluster/serve.hpp"
#include "cohort/messaging/messenger.hpp"
#include <cohort/cluster/cluster.hpp>
#include <cohort/ipc/peer.hpp>
#include <cohort/worker/run_worker.hpp>
#include "ipc/raw.hpp"
#include "ipc/setting.hpp"
#include "support.hpp"

namespace {

namespace asio = cohort::asio;
using cohort::bench::clock;
using cohort::bench::raw_end;
using cohort::bench::small;
using cohort::bench::where;

constexpr std::size_t message_size = 64;

struct measure {  // to a worker: send so many to the worker in slot 2
  bool directly = false;
  std::uint32_t in_flight = 1;
  std::uint32_t count = 0;
};
struct figure {  // its answer
  double microseconds = 0;
};

using bus = cohort::messenger<std::variant<small, measure, figure>>;

/// Sends until none is left. Each must be delivered to as many.
asio::awaitable<void> send_some(bus& talk, cohort::recipient to, std::uint32_t& left, std::uint32_t receivers) {
  const small what;
  while (left != 0) {
    --left;
    const cohort::receipt receipt = co_await talk.send_to(to, what);
    if (receipt.delivered != receivers || !receipt.complete()) throw std::runtime_error(to_string(receipt));
  }
}

/// Microseconds a message.
asio::awaitable<double> time_of(bus& talk, cohort::recipient to, std::uint32_t receivers, std::uint32_t in_flight,
                                std::uint32_t count) {
  std::uint32_t left = count;
  std::exception_ptr failure;
  cohort::task_group senders(co_await asio::this_coro::executor);
  const auto begin = clock::now();
  for (std::uint32_t i = 0; i < in_flight; ++i) {
    senders.start(send_some(talk, to, left, receivers), [&](std::exception_ptr thrown) {
      if (thrown) failure = thrown;
    });
  }
  co_await senders.wait_empty();
  if (failure) std::rethrow_exception(failure);
  co_return cohort::bench::elapsed(begin) / count;
}

asio::awaitable<void> answer(bus& talk, const measure& order) {
  talk.send_directly(order.directly);
  const auto to = cohort::recipient::slot(2);
  std::uint32_t first = 1;  // introduces the two, if need be
  co_await send_some(talk, to, first, 1);
  figure result;
  result.microseconds = co_await time_of(talk, to, 1, order.in_flight, order.count);
  talk.send_directly(false);
  const auto receipt = co_await talk.send_to_primary(result);
  if (!receipt.complete()) throw std::runtime_error(to_string(receipt));
}

asio::awaitable<void> answer_all(cohort::worker& self) {
  bus talk(self);
  talk.on<small>([](const small&) {});
  talk.on<measure>([&talk](const measure& order) { return answer(talk, order); });
  co_await self.until_draining();
}

asio::awaitable<void> no_connections(asio::ip::tcp::socket, cohort::worker&) { co_return; }

/// Runs `what` in the primary of a cluster, when all workers are ready, and returns whether that went well.
bool in_cluster(unsigned workers, where place, std::function<asio::awaitable<void>(cohort::cluster&)> what) {
  bool ready = false;
  const auto when_ready = [&ready, workers, what](cohort::cluster& primary) -> asio::awaitable<void> {
    asio::steady_timer pause(primary.get_executor());
    while (primary.stats().ready < workers) {
      pause.expires_after(std::chrono::milliseconds(10));
      co_await pause.async_wait(asio::use_awaitable);
    }
    ready = true;
    co_await what(primary);
    primary.stop("measured");
  };
  cohort::cluster_options options;
  options.listen = {"127.0.0.1:0"};  // at which nobody calls
  options.workers = workers;
  options.hang_timeout = std::chrono::milliseconds(0);
  options.in_primary = when_ready;
  options.on_event = [](const cohort::cluster_event&) {};
  options.on_start = [place](unsigned slot, cohort::command& program) {
    program.cpu_affinity(place == where::two_cores && slot == 2 ? 1U : 0U);
  };
  const int status = cohort::serve(options, no_connections);
  return status == 0 && ready;
}

double raw_round_trips(where place, std::uint32_t in_flight, std::uint32_t count) {
  const std::size_t size = message_size * in_flight;
  return cohort::bench::between(
      place,
      [&](int socket) {
        raw_end end(socket);
        std::vector<char> bytes(size);
        for (std::uint32_t i = 0; i < count; i += in_flight) {
          end.read_all(bytes.data(), size);
          end.write(bytes.data(), size);
        }
      },
      [&](int socket) {
        raw_end end(socket);
        std::vector<char> bytes(size, 'x');
        const auto begin = clock::now();
        for (std::uint32_t i = 0; i < count; i += in_flight) {
          end.write(bytes.data(), size);
          end.read_all(bytes.data(), size);
        }
        return cohort::bench::elapsed(begin) / count;
      });
}

double raw_broadcasts(unsigned receivers, std::uint32_t count) {
  std::vector<raw_end> ends;
  std::vector<pid_t> echoes;
  for (unsigned i = 0; i < receivers; ++i) {
    auto pair = cohort::make_channel_pair();
    echoes.push_back(cohort::bench::start_on(0, [&] {
      pair.first.reset();
      raw_end end(pair.second.release());
      std::array<char, message_size> bytes{};
      for (std::uint32_t each = 0; each < count; ++each) {
        end.read_all(bytes.data(), bytes.size());
        end.write(bytes.data(), bytes.size());
      }
    }));
    pair.second.reset();
    ends.emplace_back(pair.first.release());
  }
  std::array<char, message_size> bytes{};
  const auto begin = clock::now();
  for (std::uint32_t each = 0; each < count; ++each) {
    for (auto& end : ends) end.write(bytes.data(), bytes.size());
    for (auto& end : ends) end.read_all(bytes.data(), bytes.size());
  }
  const double figure = cohort::bench::elapsed(begin) / count;
  for (const pid_t pid : echoes) ::waitpid(pid, nullptr, 0);
  return figure;
}

constexpr std::size_t runs = 5;

asio::awaitable<double> ask(bus& talk, const double& answered, bool directly, std::uint32_t in_flight,
                            std::uint32_t count) {
  measure order;
  order.directly = directly;
  order.in_flight = in_flight;
  order.count = count;
  const auto receipt = co_await talk.send_to(cohort::recipient::slot(1), order);
  if (!receipt.complete()) throw std::runtime_error(to_string(receipt));
  co_return answered;
}

asio::awaitable<void> compare_round_trips(cohort::cluster& primary, where place, const std::string& how,
                                          std::uint32_t in_flight, std::uint32_t count) {
  bus talk(primary);
  double answered = 0;
  talk.on<figure>([&answered](const figure& what) { answered = what.microseconds; });
  std::vector<double> by_primary, direct, raw;
  for (std::size_t run = 0; run < runs; ++run) {
    const double ours = co_await ask(talk, answered, false, in_flight, count);
    by_primary.push_back(ours);
    const double without = co_await ask(talk, answered, true, in_flight, count);
    direct.push_back(without);
    raw.push_back(raw_round_trips(place, in_flight, count));
  }
  const double reference = cohort::bench::median(raw);
  const auto print = [&](const char* by, double value) {
    fmt::print("round trip, {}, {}: {:.1f} µs ({:.0f}/s), raw {:.1f} µs ({:.0f}/s), ratio {:.2f}\n", by, how, value,
               1e6 / value, reference, 1e6 / reference, value / reference);
  };
  print("through the primary", cohort::bench::median(by_primary));
  print("directly", cohort::bench::median(direct));
  std::fflush(stdout);
}

asio::awaitable<void> compare_broadcasts(cohort::cluster& primary, std::uint32_t in_flight, std::uint32_t count) {
  bus talk(primary);
  std::vector<double> ours, raw;
  for (std::size_t run = 0; run < runs; ++run) {
    const auto to = cohort::recipient::everyone();
    const double mine = co_await time_of(talk, to, primary.size(), in_flight, count);
    ours.push_back(mine);
    raw.push_back(raw_broadcasts(primary.size(), count));
  }
  const double value = cohort::bench::median(ours), reference = cohort::bench::median(raw);
  fmt::print("broadcast to {}, {}: {:.1f} µs ({:.0f}/s, {:.0f} messages/s), raw {:.1f} µs ({:.0f}/s), ratio {:.2f}\n",
             primary.size(), in_flight == 1 ? "one at a time" : fmt::format("{} in flight", in_flight), value,
             1e6 / value, 1e6 * primary.size() / value, reference, 1e6 / reference, value / reference);
  std::fflush(stdout);
}

asio::awaitable<void> round_trips(cohort::cluster& primary, where place) {
  const std::string cores = place == where::same_core ? "same core" : "two cores";
  co_await compare_round_trips(primary, place, cores + ", one at a time", 1, 6'000);
  co_await compare_round_trips(primary, place, cores + ", 32 in flight", 32, 32 * 400);
}

asio::awaitable<void> broadcasts(cohort::cluster& primary) {
  co_await compare_broadcasts(primary, 1, 5'000 / primary.size());
  co_await compare_broadcasts(primary, 32, 8'000 / primary.size());
}

}  // namespace

int main(int argc, char* argv[]) {
  if (cohort::has_parent()) {
    cohort::worker_options worker;
    worker.run = answer_all;
    return cohort::run_worker(no_connections, worker);
  }
  const auto wanted = [&](std::string_view name) { return argc == 1 || (argc == 2 && name == argv[1]); };
  cohort::bench::pin(0);
  bool good = true;
  for (const where place : {where::same_core, where::two_cores}) {
    if (!wanted("round-trips")) break;
    good = good && in_cluster(2, place, [place](cohort::cluster& primary) { return round_trips(primary, place); });
  }
  for (const unsigned workers : {2U, 8U, 32U}) {
    if (!wanted("broadcasts") && !wanted("broadcasts-" + std::to_string(workers))) continue;
    good = good && in_cluster(workers, where::same_core, broadcasts);
  }
  return good ? 0 : 1;
}
