// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/control/metrics.hpp"

#include <cstdlib>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>

#include "../../support/harness.hpp"

namespace cohort::test::metrics_test {
namespace {

/// The text format 0.0.4, strictly: what it does not say, or says and advises against, is an error.
class exposition {
 public:
  explicit exposition(const std::string& text) {
    if (text.empty() || text.back() != '\n') fail("no end of line at the end");
    for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
      line_ = text.substr(at, text.find('\n', at) - at);
      at_ = 0;
      if (line_.starts_with("# ")) {
        comment();
      } else {
        sample();
      }
    }
  }

  using labels = std::map<std::string, std::string>;

  double value(const std::string& name, const labels& of = {}) const {
    const auto found = samples_.find({name, of});
    if (found == samples_.end()) throw std::runtime_error("no sample of " + name);
    return found->second;
  }

  std::size_t count(const std::string& name) const {
    std::size_t result = 0;
    for (const auto& [key, ignored] : samples_) result += key.first == name ? 1 : 0;
    return result;
  }

  std::string type(const std::string& name) const { return types_.at(name); }

 private:
  [[noreturn]] void fail(const std::string& why) const { throw std::runtime_error(why + ": " + line_); }

  static bool is_name(char c, bool first) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (!first && c >= '0' && c <= '9');
  }

  std::string name() {
    const std::size_t begin = at_;
    while (at_ < line_.size() && is_name(line_[at_], at_ == begin)) ++at_;
    if (at_ == begin) fail("no name");
    return line_.substr(begin, at_ - begin);
  }

  void expect(char c) {
    if (at_ >= line_.size() || line_[at_++] != c) fail(std::string("want ") + c);
  }

  void comment() {
    at_ = 2;
    const std::string keyword = name();
    expect(' ');
    const std::string metric = name();
    expect(' ');
    const std::string rest = line_.substr(at_);
    if (keyword == "HELP") {
      if (rest.empty() || rest.find('\\') != rest.npos) fail("help");
      if (!helped_.insert(metric).second) fail("two helps");
    } else if (keyword == "TYPE") {
      if (rest != "counter" && rest != "gauge") fail("type");
      if ((rest == "counter") != metric.ends_with("_total")) fail("a counter, and nothing else, ends in _total");
      if (!helped_.contains(metric)) fail("no help");
      if (!types_.emplace(metric, rest).second) fail("two types");
    } else {
      fail("keyword");
    }
    current_ = metric;
  }

  void sample() {
    const std::string metric = name();
    if (metric != current_ || !types_.contains(metric)) fail("a sample outside of its group");
    labels found;
    if (at_ < line_.size() && line_[at_] == '{') {
      do {
        ++at_;
        std::string key = name();
        expect('=');
        std::string text = quoted();
        if (!found.emplace(std::move(key), std::move(text)).second) fail("a label twice");
      } while (at_ < line_.size() && line_[at_] == ',');
      expect('}');
    }
    expect(' ');
    char* end = nullptr;
    const double number = std::strtod(line_.c_str() + at_, &end);
    if (end == line_.c_str() + at_ || *end != '\0') fail("no number");
    if (!samples_.emplace(std::pair(metric, found), number).second) fail("a sample twice");
  }

  std::string quoted() {
    expect('"');
    std::string result;
    while (at_ < line_.size() && line_[at_] != '"') {
      char c = line_[at_++];
      if (c == '\\') {
        c = at_ < line_.size() ? line_[at_++] : '\0';
        if (c == 'n') {
          c = '\n';
        } else if (c != '\\' && c != '"') {
          fail("escape");
        }
      }
      result += c;
    }
    expect('"');
    return result;
  }

  std::string line_;
  std::size_t at_ = 0;
  std::string current_;
  std::set<std::string> helped_;
  std::map<std::string, std::string> types_;
  std::map<std::pair<std::string, labels>, double> samples_;
};

worker_stats worker(unsigned slot, pid_t pid, worker_state state) {
  worker_stats result;
  result.slot = slot;
  result.generation = 3;
  result.pid = pid;
  result.state = state;
  return result;
}

cluster_stats some() {
  cluster_stats stats;
  stats.generation = 3;
  stats.wanted = 2;
  stats.ready = 1;
  stats.restarts = 7;
  stats.reloads = 2;
  stats.served = 12'345'678'999;
  stats.lost_log_lines = 3;
  stats.counters = {{"bytes_out", 12'345'678'999}, {"orders", 0}};
  stats.uptime = 61500ms;
  stats.listeners = {{"127.0.0.1:80", accept_queue{5, 128}},
                     {"unix:/a\\b\"c\nd", accept_queue{0, 1}},
                     {"unix:@nothing", std::nullopt}};
  stats.workers = {worker(1, 100, worker_state::draining), worker(1, 101, worker_state::draining),
                   worker(1, 102, worker_state::ready),    worker(2, 0, worker_state::waiting),
                   worker(2, 0, worker_state::waiting),    worker(2, 99, worker_state::dead)};
  auto& busy = stats.workers[2];
  busy.uptime = 1250ms;
  busy.open = 4;
  busy.leased = 5;
  busy.refused = 17;
  busy.served = 12'345'678'901;
  busy.memory = 3 << 20;
  busy.lag = 250us;
  stats.slots = {{1, false, 6, exit_status::killed(9), exit_reason::crash, "x"},
                 {2, true, 1, exit_status::exited(3), exit_reason::fatal, "y"},
                 {3, false, 0, std::nullopt, exit_reason::none, ""}};
  return stats;
}

PLAIN_TEST("metrics are the text format of Prometheus, in base units") {
  const exposition found(to_prometheus(some()));
  CHECK(found.value("cohort_uptime_seconds") == 61.5);
  CHECK(found.value("cohort_stopping") == 0);
  CHECK(found.value("cohort_generation") == 3);
  CHECK(found.value("cohort_workers_wanted") == 2);
  CHECK(found.value("cohort_workers_ready") == 1);
  CHECK(found.value("cohort_restarts_total") == 7);
  CHECK(found.value("cohort_reloads_total") == 2);
  CHECK(found.type("cohort_reloads_total") == "counter");
  CHECK(found.value("cohort_served_connections_total") == 12'345'678'999);
  CHECK(found.type("cohort_served_connections_total") == "counter");
  CHECK(found.type("cohort_worker_served_connections") == "gauge");  // it begins again with the next process
  CHECK(found.value("cohort_lost_log_lines_total") == 3);
  CHECK(found.value("cohort_application_total", {{"name", "bytes_out"}}) == 12'345'678'999);
  CHECK(found.value("cohort_application_total", {{"name", "orders"}}) == 0);
  CHECK(found.type("cohort_application_total") == "counter");

  const exposition::labels busy = {{"slot", "1"}, {"generation", "3"}, {"pid", "102"}};
  auto ready = busy;
  ready["state"] = "ready";
  CHECK(found.value("cohort_worker_state", ready) == 1);
  CHECK(found.value("cohort_worker_uptime_seconds", busy) == 1.25);
  CHECK(found.value("cohort_worker_open_connections", busy) == 4);
  CHECK(found.value("cohort_worker_leased_connections", busy) == 5);
  CHECK(found.value("cohort_worker_served_connections", busy) == 12'345'678'901);
  CHECK(found.value("cohort_worker_refused", busy) == 17);
  CHECK(found.value("cohort_worker_resident_memory_bytes", busy) == 3 * 1024 * 1024);
  CHECK(found.value("cohort_worker_loop_lag_seconds", busy) == 0.00025);

  CHECK(found.value("cohort_slot_restarts_total", {{"slot", "1"}}) == 6);
  CHECK(found.value("cohort_slot_degraded", {{"slot", "1"}}) == 0);
  CHECK(found.value("cohort_slot_degraded", {{"slot", "2"}}) == 1);
  CHECK(found.value("cohort_slot_last_exit_status", {{"slot", "1"}}) == 128 + 9);
  CHECK(found.value("cohort_slot_last_exit_status", {{"slot", "2"}}) == 3);
  CHECK(found.count("cohort_slot_last_exit_status") == 2);
}

PLAIN_TEST("metrics tell apart the workers of one slot, and leave out those that do not run") {
  const exposition found(to_prometheus(some()));
  CHECK(found.count("cohort_worker_state") == 3);
  CHECK(found.count("cohort_worker_loop_lag_seconds") == 3);
  CHECK(found.value("cohort_workers", {{"state", "waiting"}}) == 2);
  CHECK(found.value("cohort_workers", {{"state", "draining"}}) == 2);
  CHECK(found.value("cohort_workers", {{"state", "dead"}}) == 1);
  CHECK(found.value("cohort_workers", {{"state", "stopping"}}) == 0);
  CHECK(found.count("cohort_workers") == 6);
}

PLAIN_TEST("metrics quote addresses, and leave out queues that nobody knows") {
  const exposition found(to_prometheus(some()));
  CHECK(found.value("cohort_listen_queue_connections", {{"address", "127.0.0.1:80"}}) == 5);
  CHECK(found.value("cohort_listen_queue_limit", {{"address", "127.0.0.1:80"}}) == 128);
  CHECK(found.value("cohort_listen_queue_limit", {{"address", "unix:/a\\b\"c\nd"}}) == 1);
  CHECK(found.count("cohort_listen_queue_limit") == 2);
}

PLAIN_TEST("metrics know agents by their names") {
  cluster_stats stats;
  agent_stats one;
  one.name = "the \"cache\"";
  one.state = worker_state::ready;
  one.restarts = 3;
  one.memory = 4096;
  stats.agents.push_back(one);
  one.name = "log";
  one.state = worker_state::dead;
  stats.agents.push_back(one);
  const exposition text(to_prometheus(stats));
  CHECK(text.value("cohort_agent_ready", {{"agent", "the \"cache\""}}) == 1);
  CHECK(text.value("cohort_agent_ready", {{"agent", "log"}}) == 0);
  CHECK(text.value("cohort_agent_restarts_total", {{"agent", "log"}}) == 3);
  CHECK(text.value("cohort_agent_resident_memory_bytes", {{"agent", "log"}}) == 4096);
}

PLAIN_TEST("metrics of a cluster that has not begun are well formed, too") {
  const exposition found(to_prometheus(cluster_stats()));
  CHECK(found.value("cohort_workers_ready") == 0);
  CHECK(found.count("cohort_worker_state") == 0);
}

}  // namespace
}  // namespace cohort::test::metrics_test
