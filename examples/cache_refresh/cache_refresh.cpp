// SPDX-License-Identifier: BSL-1.0
// An HTTP cluster whose workers answer from memory. What they hold comes from a source, and is refreshed in three ways:
//
//   forced    on a timetable, each worker loads it again, changed or not
//   pulled    on a timetable, one worker asks the source for its version, and tells all when it is another one
//   pushed    an agent, the only process that does so, keeps a connection on which the source says each change, and
//             tells all
//
//   GET /value    the value, its version, who has answered, and in which way the value came there
//
//   cache_refresh_source 7001 green &
//   cache_refresh --listen 127.0.0.1:8000 --workers 4 --source 127.0.0.1:7001 --forced 60 --pull 5 --push on
//
// While the source is away the workers answer with what they have. Its failures are in the log, and end nothing.

#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include <cohort/cohort.hpp>
#include <cohort/net/endpoint.hpp>

#include "../http.hpp"
#include "lines.hpp"

using asio::awaitable;
using asio::use_awaitable;
using asio::ip::tcp;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr milliseconds patience = 2s;        // with the source, which says something each second
constexpr milliseconds retry_pause = 500ms;  // when it is away

enum class way : std::uint8_t { started, forced, pulled, pushed };
constexpr std::string_view way_names[] = {"started", "forced", "pulled", "pushed"};

/// What workers are told: the source has this version.
struct refresh {
  std::uint64_t version = 0;
  way by = way::started;
};
using bus = cohort::messenger<refresh>;

std::uint64_t parse_version(std::string_view text) {
  std::uint64_t version = 0;
  if (http::parse_number<std::uint64_t>(text, 1, std::numeric_limits<std::uint64_t>::max(), version)) return version;
  throw std::runtime_error(fmt::format("want a version, got \"{}\"", text));
}

awaitable<std::string> converse(tcp::endpoint source, std::string question) {
  line_socket connection(co_await asio::this_coro::executor);
  co_await connection.connect(source);
  co_await connection.write(std::move(question));
  co_return co_await connection.read();
}

awaitable<std::string> ask(tcp::endpoint source, std::string question) {
  try {
    co_return co_await cohort::with_timeout(converse(source, std::move(question)), patience);
  } catch (const std::system_error& error) {
    throw std::system_error(error.code(), fmt::format("source {}", cohort::to_string(source)));
  }
}

/// What one worker knows.
class cache {
 public:
  cache(const asio::any_io_executor& executor, tcp::endpoint source) : source_(source), turn_(executor, 1) {}

  std::uint64_t version() const { return version_; }  // 0: nothing yet

  /// Loads the value from the source, unless it is here in the version that is wanted. Throws if the source is away,
  /// and leaves what is here.
  awaitable<void> load(way by, std::optional<std::uint64_t> wanted = std::nullopt) {
    // One after the other: of two answers on their way, the older one might come last.
    co_await turn_.acquire();
    const permit until_the_end{turn_};
    if (wanted == version_) co_return;
    const std::string line = co_await ask(source_, "GET");
    const auto space = line.find(' ');
    const auto version = parse_version(std::string_view(line).substr(0, space));
    value_ = space == line.npos ? std::string() : line.substr(space + 1);
    version_ = version;
    by_ = by;
  }

  http::response answer(const http::request_parser& request, unsigned worker) const {
    if (request.path() != "/value") return {HTTP_STATUS_NOT_FOUND, "not found\n"};
    if (version_ == 0) return {HTTP_STATUS_SERVICE_UNAVAILABLE, "no value yet\n"};
    return {HTTP_STATUS_OK, fmt::format("{}\nversion {}, worker {} (pid {}), {}\n", value_, version_, worker,
                                        ::getpid(), way_names[static_cast<std::size_t>(by_)])};
  }

 private:
  struct permit {
    cohort::semaphore& of;
    ~permit() { of.release(); }
  };

  tcp::endpoint source_;
  cohort::semaphore turn_;
  std::uint64_t version_ = 0;
  std::string value_;
  way by_ = way::started;
};

/// Tells all workers, and waits until they have loaded it. Throws if one of them has not, or does not say so for long:
/// one that hangs must not keep the others from the next change.
awaitable<void> tell_all(bus& talk, refresh what) {
  const cohort::receipt receipt = co_await cohort::with_timeout(talk.send_to_workers(what), 2 * patience);
  for (const auto& each : receipt.failures) {
    // Who is gone needs nothing, and who is not ready has its loading still before it.
    if (each.why == cohort::undelivered::gone || each.why == cohort::undelivered::not_ready) continue;
    throw std::runtime_error(fmt::format("refresh: {}", cohort::to_string(receipt)));
  }
}

/// In one worker at a time, another one each time: so one that has missed a change finds out when it is its turn.
awaitable<void> pull(cohort::worker& self, const cache& here, tcp::endpoint source) {
  const std::string newest = co_await ask(source, "VERSION");
  const refresh what{parse_version(newest), way::pulled};
  if (what.version == here.version()) co_return;
  bus talk(self);
  co_await tell_all(talk, what);
}

awaitable<void> watch(bus& talk, tcp::endpoint source) {
  line_socket connection(co_await asio::this_coro::executor);
  co_await cohort::with_timeout(connection.connect(source), patience);
  co_await connection.write("WATCH");
  for (std::uint64_t told = 0;;) {
    const std::string line = co_await cohort::with_timeout(connection.read(), patience);
    const refresh what{parse_version(line), way::pushed};
    if (what.version == told) continue;
    co_await tell_all(talk, what);
    told = what.version;
  }
}

/// In the agent: watches the source, and again after a pause when that has come to an end. The first thing that the
/// source says is its version, so that no change is missed that there was in between.
awaitable<void> push(cohort::worker& self, tcp::endpoint source) {
  co_await self.all_ready();
  bus talk(self);
  asio::steady_timer pause(self.get_executor());
  for (std::string problem, said;; said = problem) {
    try {
      co_await watch(talk, source);
    } catch (const std::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;  // the cluster stops
      problem = error.what();
    } catch (const std::exception& error) {
      problem = error.what();
    }
    if (problem != said) fmt::print(stderr, "agent source: watch {}: {}\n", cohort::to_string(source), problem);
    pause.expires_after(retry_pause);
    co_await pause.async_wait(use_awaitable);
  }
}

struct settings {
  std::string listen = "127.0.0.1:8000";
  unsigned workers = 4;
  tcp::endpoint source{asio::ip::address_v4::loopback(), 7001};
  milliseconds forced = 60s, pull = 5s;  // 0: off
  bool push = true;
};

bool parse_interval(std::string_view text, milliseconds& result) {
  double seconds = 0;
  if (text != "off" && !http::parse_number(text, 0.01, 86'400.0, seconds)) return false;
  result = milliseconds(static_cast<int>(1000 * seconds));
  return true;
}

settings parse_options(int argc, char* argv[]) {
  settings result;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    const std::string value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--listen") {
      result.listen = cohort::to_string(cohort::parse_endpoint(value));
    } else if (option == "--source") {
      result.source = cohort::parse_endpoint(value);
    } else if (option == "--push" && (value == "on" || value == "off")) {
      result.push = value == "on";
    } else if (!(option == "--workers" && http::parse_number(value, 1u, 1024u, result.workers)) &&
               !(option == "--forced" && parse_interval(value, result.forced)) &&
               !(option == "--pull" && parse_interval(value, result.pull))) {
      throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
    }
  }
  return result;
}

int main(int argc, char* argv[]) {
  settings wanted;
  try {
    wanted = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr,
               "cache_refresh: {}\n"
               "usage: cache_refresh [--listen ADDRESS:PORT] [--workers N] [--source ADDRESS:PORT]\n"
               "                     [--forced SECONDS|off] [--pull SECONDS|off] [--push on|off]\n",
               error.what());
    return 2;
  }

  // Of a worker: each is a process, and has its own.
  std::optional<cache> here;
  std::optional<bus> talk;
  const auto begin = [&](unsigned slot) -> awaitable<void> {
    try {
      co_await here->load(way::started);
    } catch (const std::exception& error) {
      fmt::print(stderr, "worker {} begins without a value: {}\n", slot, error.what());
    }
  };

  cohort::worker_options worker;
  worker.set_up = [&](cohort::worker& self) -> awaitable<void> {
    here.emplace(self.get_executor(), wanted.source);
    talk.emplace(self);
    // Listens before it loads, or it would miss a change in between.
    talk->on<refresh>([&](const refresh& what) { return here->load(what.by, what.version); });
    co_await begin(self.slot());
  };
  // A worker that is started while the source is away does what it can, and has its value as soon as there is one.
  worker.run = [&](cohort::worker& self) -> awaitable<void> {
    asio::steady_timer pause(self.get_executor());
    while (here->version() == 0) {
      pause.expires_after(retry_pause);
      co_await pause.async_wait(use_awaitable);
      co_await begin(self.slot());
    }
  };

  cohort::cluster_options options;
  options.listen = {wanted.listen};
  options.workers = wanted.workers;
  options.worker = worker;
  // Run once: while the source keeps one waiting, the next is not a failure of its own.
  if (wanted.forced > 0ms) {
    cohort::schedule forced("forced");
    forced.every(wanted.forced).on_all_workers().missed(cohort::missed_runs::run_once);
    options.schedules.push_back({forced, [&](cohort::worker&) { return here->load(way::forced); }});
  }
  if (wanted.pull > 0ms) {
    cohort::schedule pulled("pull");
    pulled.every(wanted.pull).on_one_worker().missed(cohort::missed_runs::run_once);
    options.schedules.push_back({pulled, [&](cohort::worker& self) { return pull(self, *here, wanted.source); }});
  }
  const auto push_source = [&](cohort::worker& self) { return push(self, wanted.source); };
  if (wanted.push) options.agents.emplace_back("source", push_source);
  options.on_event = [](const cohort::cluster_event& event) {
    if (event.run && event.run->ok) return;  // of the schedules, what has failed is enough
    const auto text = cohort::to_string(event);
    if (event.what != cohort::cluster_event::kind::listening) return cohort::error_log::write(text);
    std::puts(text.c_str());
    std::fflush(stdout);
  };
  return cohort::serve(options, [&](tcp::socket socket, cohort::worker& self) {
    return http::serve(std::move(socket), self,
                       [&](const http::request_parser& request) { return here->answer(request, self.slot()); });
  });
}
