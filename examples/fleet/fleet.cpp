// SPDX-License-Identifier: BSL-1.0
// One of several clusters, each on a machine of its own, whose workers and agents reach those of the others through one
// Redis; and a job that runs on one machine at a time. See README.md beside this file.
//
//   fleet --name a --fleet a,b,c --redis 127.0.0.1:6379 --listen 127.0.0.1:8001
//
// A client of any worker writes lines, and gets one for each:
//
//   keep CLUSTER[/WHOM] TEXT    a message that is kept until it has arrived; CLUSTER: a name, or * for all
//   tell CLUSTER[/WHOM] TEXT    one that may be lost; WHOM: workers (default), any, everyone, slot:N, agent:NAME

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>
#include <asio/buffer.hpp>
#include <asio/generic/stream_protocol.hpp>
#include <asio/read_until.hpp>
#include <asio/write.hpp>

#include <cohort/cohort.hpp>

#include "../sessions/redis.hpp"
#include "bridge.hpp"
#include "elected.hpp"
#include "messages.hpp"

using asio::awaitable;
using asio::use_awaitable;
using std::chrono::milliseconds;
using stream_socket = asio::generic::stream_protocol::socket;

struct settings {
  std::string name, listen = "127.0.0.1:8001", control, config, ledger, inbox_limit = "1000";
  std::vector<std::string> fleet;
  unsigned workers = 2;
  milliseconds lock{3'000};
  redis::address redis{"127.0.0.1:6379"};
};

template <class Number>
Number parse_number(std::string_view text, Number least, Number most) {
  Number result{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  if (error == std::errc() && end == text.data() + text.size() && result >= least && result <= most) return result;
  throw std::invalid_argument(fmt::format("want a number from {} to {}, got \"{}\"", least, most, text));
}

void say(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

/// What a worker sends to the fleet by, and hears it.
class fleet {
 public:
  fleet(cohort::worker& self, const settings& here, std::function<void(const parcel&)> heard)
      : here_(here),
        talk_(self),
        unique_(fmt::format("{}-{}-{:x}", here.name, ::getpid(),
                            std::chrono::system_clock::now().time_since_epoch().count())) {
    talk_.on<parcel>([this, heard = std::move(heard)](const parcel& what) {
      if (heard_.add(what.id)) heard(what);
    });
    talk_.on<outcome>([this](const outcome& what) {
      const auto waits = outcomes_.find(what.id);
      if (waits != outcomes_.end()) waits->second = what;
    });
  }

  /// Returns what is known of it, for each cluster that it is for. Waits for that: at the bridge, which handles 64 at a
  /// time, then for Redis, and 10 s at most in all.
  awaitable<std::string> send(request what) {
    what.what.id = fmt::format("{}-{}", unique_, ++sent_);
    what.what.from = here_.name;
    const bool mine = std::erase(what.clusters, here_.name) != 0;
    std::string said = what.what.id;
    if (!what.clusters.empty()) {
      const outcome result = co_await by_bridge(what);
      for (const auto& each : result.parts) {
        said += fmt::format("; {}: {}", each.cluster, known_names[static_cast<std::size_t>(each.state)]);
      }
    }
    if (mine) said += fmt::format("; {}: {}", here_.name, co_await to_own(what.what));
    co_return said;
  }

 private:
  awaitable<outcome> by_bridge(const request& what) {
    const std::string& id = what.what.id;
    outcome& result = outcomes_[id];
    const cohort::detail::on_exit forget([&] { outcomes_.erase(id); });
    all(what, known::unknown, result);
    try {
      const auto receipt = co_await cohort::with_timeout(talk_.send_to_agent(bridge_name, what), 2 * patience);
      const auto has_not_begun = [](const auto& each) { return each.why == cohort::undelivered::not_ready; };
      if (std::ranges::any_of(receipt.failures, has_not_begun)) all(what, known::unsent, result);
    } catch (const std::system_error& error) {
      if (error.code() != cohort::errc::timed_out) throw;
    }
    co_return result;
  }

  awaitable<std::string> to_own(const parcel& what) {
    try {
      const auto receipt = co_await cohort::with_timeout(talk_.send_to(address_of(what), what), patience);
      co_return cohort::to_string(receipt);
    } catch (const std::system_error& error) {
      if (error.code() != cohort::errc::timed_out) throw;
    }
    co_return std::string("unknown");
  }

  static void all(const request& what, known state, outcome& result) {
    result.parts.clear();
    for (const auto& each : what.clusters) result.parts.push_back({each, state});
  }

  const settings& here_;
  bus talk_;
  memory heard_;
  std::string unique_;
  std::uint64_t sent_ = 0;
  std::map<std::string, outcome> outcomes_;
};

request parse_request(std::string_view line, const settings& here) {
  const auto word = [&line] {
    const auto end = std::min(line.find(' '), line.size());
    const auto result = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
    return result;
  };
  request result;
  const auto verb = word();
  if (verb != "keep" && verb != "tell") throw std::invalid_argument("want keep or tell, CLUSTER[/WHOM] and a text");
  result.keep = verb == "keep";
  const auto where = word();
  const auto slash = std::min(where.find('/'), where.size());
  const auto cluster = where.substr(0, slash);
  const auto who = slash == where.size() ? std::string_view("workers") : where.substr(slash + 1);
  for (const auto& each : here.fleet) {
    if (cluster == "*" || cluster == each) result.clusters.push_back(each);
  }
  if (result.clusters.empty()) throw std::invalid_argument(fmt::format("no such cluster: \"{}\"", cluster));
  if (who == "any") {
    result.what.to = whom::any_worker;
  } else if (who == "everyone") {
    result.what.to = whom::everyone;
  } else if (who.starts_with("slot:")) {
    result.what.to = whom::slot;
    result.what.slot = parse_number(who.substr(5), 1u, 1024u);
  } else if (who.starts_with("agent:")) {
    result.what.to = whom::agent;
    result.what.agent = who.substr(6);
  } else if (who != "workers") {
    throw std::invalid_argument(fmt::format("no such recipients: \"{}\"", who));
  }
  result.what.text = line;
  return result;
}

awaitable<void> serve_lines(stream_socket socket, cohort::worker& self, fleet& all, const settings& here) {
  std::string input;
  for (;;) {
    const auto end = input.find('\n');
    if (end == input.npos) {
      const bool more = co_await self.readable(socket);
      if (!more) co_return;
      co_await asio::async_read_until(socket, asio::dynamic_buffer(input, 65'536), '\n', use_awaitable);
      continue;
    }
    std::optional<request> what;
    std::string answer;
    try {
      what = parse_request(std::string_view(input).substr(0, end), here);
    } catch (const std::exception& error) {
      answer = error.what();
    }
    input.erase(0, end + 1);
    if (what) answer = co_await all.send(*what);
    answer += '\n';
    co_await asio::async_write(socket, asio::buffer(answer), use_awaitable);
  }
}

/// What is to be done by one machine at a time: a line at the end of the ledger, with the token.
awaitable<void> work(const settings& here, long long token) {
  std::ofstream ledger(here.ledger, std::ios::app);
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  ledger << fmt::format("{} {} {}\n", token, here.name, std::chrono::nanoseconds(now).count());
  co_return;
}

settings parse_options(int argc, char* argv[]) {
  settings result;
  std::map<std::string_view, std::string*> texts{
      {"--name", &result.name},       {"--listen", &result.listen}, {"--inbox-limit", &result.inbox_limit},
      {"--control", &result.control}, {"--config", &result.config}, {"--ledger", &result.ledger}};
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    if (i + 1 == argc) throw std::invalid_argument(fmt::format("{} needs a value", option));
    std::string value = argv[i + 1];
    if (const auto text = texts.find(option); text != texts.end()) {
      *text->second = std::move(value);
    } else if (option == "--fleet") {
      for (std::size_t begin = 0; begin <= value.size();) {
        const auto end = std::min(value.find(',', begin), value.size());
        result.fleet.push_back(value.substr(begin, end - begin));
        begin = end + 1;
      }
    } else if (option == "--workers") {
      result.workers = parse_number(value, 1u, 1024u);
    } else if (option == "--lock") {
      result.lock = milliseconds(parse_number(value, 300, 600'000));
    } else if (option == "--redis") {
      result.redis = redis::address(value);
    } else {
      throw std::invalid_argument(fmt::format("not understood: {} {}", option, value));
    }
  }
  parse_number(result.inbox_limit, 1, 1'000'000'000);
  if (std::ranges::find(result.fleet, result.name) == result.fleet.end()) {
    throw std::invalid_argument("--name NAME must be one of --fleet NAME,NAME…");
  }
  return result;
}

int main(int argc, char* argv[]) {
  settings here;
  try {
    here = parse_options(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(
        stderr,
        "fleet: {}\n"
        "usage: fleet --name NAME --fleet NAME,NAME… [--listen ADDRESS] [--workers N] [--redis ADDRESS]\n"
        "             [--inbox-limit N] [--lock MILLISECONDS] [--ledger FILE] [--control PATH] [--config FILE]\n",
        error.what());
    return 2;
  }
  ::signal(SIGPIPE, SIG_IGN);  // see redis::client

  std::optional<fleet> all;  // of a worker
  cohort::worker_options worker;
  worker.set_up = [&](cohort::worker& self) -> awaitable<void> {
    if (!here.config.empty() && !std::ifstream(here.config)) {
      throw std::runtime_error(fmt::format("cannot read {}", here.config));
    }
    all.emplace(self, here, [&, slot = self.slot()](const parcel& what) {
      say(fmt::format("{} worker {} (process {}) heard {} from {}: {}", here.name, slot, ::getpid(), what.id, what.from,
                      what.text));
    });
    co_return;
  };

  std::optional<bridge> carrier;  // of the agent
  std::optional<elected> lock;
  memory heard;
  cohort::agent_options agent(bridge_name);
  agent.set_up = [&](cohort::worker& self) -> awaitable<void> {
    carrier.emplace(self, here.redis, here.name, here.inbox_limit);
    carrier->talk().on<parcel>([&](const parcel& what) {
      if (heard.add(what.id))
        say(fmt::format("{} bridge heard {} from {}: {}", here.name, what.id, what.from, what.text));
    });
    const auto me =
        fmt::format("{}-{}-{}", here.name, ::getpid(), std::chrono::system_clock::now().time_since_epoch().count());
    lock.emplace(self.get_executor(), here.redis, "fleet:lock:work", me, here.lock);
    co_return;
  };
  agent.run = [&](cohort::worker& self) -> awaitable<void> {
    cohort::task_group tasks(self.get_executor());
    tasks.start(lock->run());
    std::exception_ptr failure;
    try {
      co_await carrier->run();
    } catch (...) {
      failure = std::current_exception();
    }
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await tasks.cancel_and_wait();
    if (failure) std::rethrow_exception(failure);
  };
  agent.run_again_after = milliseconds(500);
  agent.tear_down = [&](cohort::worker&) -> awaitable<void> {
    co_await lock->release();  // schedules have ended
    lock.reset();
    carrier.reset();
  };

  cohort::cluster_options options;
  options.listen = {here.listen};
  options.workers = here.workers;
  options.worker = worker;
  options.agents = {agent};
  options.control_socket = here.control;
  if (!here.ledger.empty()) {
    // Each machine has the schedule. What the job asks first is whether it is this one's.
    cohort::schedule often("work");
    often.every(milliseconds(100)).on_agent(bridge_name);
    options.schedules.push_back({often, [&](cohort::worker&) -> awaitable<void> {
                                   const auto term = lock->held();
                                   if (!term) co_return;
                                   // A job that takes longer asks again at each of its steps.
                                   const auto left = term->until - elected::clock::now();
                                   co_await cohort::with_timeout(work(here, term->token), left);
                                 }});
  }
  options.on_event = [](const cohort::cluster_event& event) {
    if (event.run && event.run->ok) return;
    if (event.what == cohort::cluster_event::kind::listening) return say(cohort::to_string(event));
    cohort::error_log::write(cohort::to_string(event));
  };
  return cohort::serve(options, [&](stream_socket socket, cohort::worker& self) {
    return serve_lines(std::move(socket), self, *all, here);
  });
}
