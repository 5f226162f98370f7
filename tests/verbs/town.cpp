// SPDX-License-Identifier: BSL-1.0
// Workers and agents that do what messages tell them; see tests/cluster/town.hpp.
#include "../messaging/town.hpp"
#include "../messaging/tally.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include "../../include/cohort/cluster/agent.hpp"
#include "../../include/cohort/worker/run_worker.hpp"
#include "../../include/cohort/cluster/run_agent.hpp"
#include "line_server.hpp"
#include "verb.hpp"

namespace cohort::test::town_verbs {
namespace {

using namespace town;

recipient parse(const std::string& text) {
  const auto space = text.find(' ');
  const std::string what = text.substr(0, space);
  const std::string rest = space == std::string::npos ? std::string() : text.substr(space + 1);
  if (what == "everyone") return recipient::everyone();
  if (what == "workers") return recipient::workers();
  if (what == "random") return recipient::any_worker();
  if (what == "slot") return recipient::slot(static_cast<unsigned>(std::stoul(rest)));
  if (what == "pid") return recipient::process(static_cast<pid_t>(std::stol(rest)));
  if (what == "agent") return recipient::agent(rest);
  if (what == "primary") return recipient::primary();
  throw std::runtime_error("nobody is called " + text);
}

/// What one process has heard and says.
class resident {
 public:
  explicit resident(worker& self, tally* counts)
      : counts_(counts), self_(self), talk_(self), rumours_(self, unheard_policy::ignore) {
    talk_.on<news>([this](const news& what, const member& from) {
      if (counts_ != nullptr) {
        ++(*counts_)->heard;
        return;
      }
      heard_ += fmt::format("{}{} ", what.number, from.slot != 0 ? fmt::format(" from {}", from.slot) : std::string());
    });
    talk_.on<order>([this](const order& what) { return obey(what); });
    talk_.on<question>([this](const question&) { return answer(); });
    talk_.on<mischief>([this](const mischief& what) { return misbehave(what.what); });
    talk_.on<agent_gone>([this](const agent_gone& who) { heard_ += "gone:" + who.agent + " "; });
    talk_.on<agent_back>([this](const agent_back& who) { heard_ += "back:" + who.agent + " "; });
  }

  void note(const std::string& what) { heard_ += what + " "; }

 private:
  asio::awaitable<void> obey(order what) {
    talk_.send_directly(what.directly);
    const auto to = parse(what.to);
    report result;
    for (std::uint32_t i = 0; i < what.count; ++i) {
      news each;
      each.number = what.first + i;
      if (counts_ != nullptr) ++(*counts_)->begun;
      const auto became = co_await talk_.send_to(to, each);
      if (counts_ != nullptr) {
        ++(*counts_)->told;
        (*counts_)->delivered += became.delivered;
        (*counts_)->not_delivered += became.failures.size();
      }
      result.text = to_string(became);
      result.delivered += became.delivered;
      result.failures += static_cast<std::uint32_t>(became.failures.size());
    }
    co_await talk_.send_to_primary(result);
  }

  asio::awaitable<void> answer() {
    report result;
    result.text = heard_;
    co_await talk_.send_to_primary(result);
  }

  asio::awaitable<void> misbehave(std::string what) {
    if (what == "throw") throw std::runtime_error("thrown in the listener");
    if (what == "fail") self_.fail("told to");
    if (what == "quit") self_.do_not_restart("told to");
    if (what == "sleep") co_await sleep();
  }

  asio::awaitable<void> sleep() {
    report begun;
    begun.text = "asleep";
    co_await talk_.send_to_primary(begun);
    try {
      co_await wait_for(std::chrono::hours(1));
    } catch (...) {
      heard_ += "cancelled ";
      throw;
    }
  }

  tally* counts_;
  worker& self_;
  talk talk_;
  messenger<rumour> rumours_;
  std::string heard_;
};

asio::awaitable<void> throw_later(worker& self) {
  co_await self.all_ready();
  throw std::runtime_error("thrown in run");
}

asio::awaitable<void> wait_for_all(worker& self, resident& here) {
  co_await self.all_ready();
  here.note("all-ready");
}

// `set-up-fails=1`, `broken-by=FILE` (ends with 9 if there is such a file), `run-throws=1`, `again=MS` (after which
// `run` begins again), `fragile=1` (an agent that an exception ends), `job=MS` (how long a job of the schedule "work"
// takes), `tally=FILE`
int live(const verb::arguments& arguments) {
  std::unique_ptr<resident> here;
  const char* const name = std::getenv("COHORT_AGENT");
  agent_options options(name != nullptr ? name : "");
  worker_options shared;
  bool throws = false, broken = false;
  long job = 0;
  std::unique_ptr<tally> counts;
  for (const auto& each : arguments) {
    const auto equals = each.find('=');
    const std::string key = each.substr(0, equals), value = each.substr(equals + 1);
    if (key == "broken-by" && ::access(value.c_str(), F_OK) == 0) return 9;
    if (key == "set-up-fails") broken = true;
    if (key == "run-throws") throws = true;
    if (key == "again") options.run_again_after = std::chrono::milliseconds(std::stol(value));
    if (key == "fragile") options.survives_exceptions = false;
    if (key == "tally") counts = std::make_unique<tally>(value);
    if (key == "job") job = std::stol(value);
  }
  const auto set_up = [&](worker& self) -> asio::awaitable<void> {
    here = std::make_unique<resident>(self, counts.get());
    if (broken) throw std::runtime_error("no source");
    co_return;
  };
  const auto run = [&](worker& self) { return throws ? throw_later(self) : wait_for_all(self, *here); };
  const auto tear_down = [&](worker&) -> asio::awaitable<void> {
    here.reset();
    co_return;
  };
  shared.idle_grace = std::chrono::milliseconds(20);
  shared.jobs["work"] = [&](worker& self) -> asio::awaitable<void> {
    here->note("work");
    if (job < 0) throw std::runtime_error("no work today");
    co_await wait_for(std::chrono::milliseconds(job));
    here->note(self.draining() ? "done-draining" : "done");
  };
  if (name != nullptr) {
    options.set_up = set_up;
    options.run = run;
    options.tear_down = tear_down;
    return run_agent(options, shared);
  }
  shared.set_up = set_up;
  shared.run = run;
  shared.tear_down = tear_down;
  return run_worker(&serve_lines, shared);
}

const verb town_verb("town", &live);

}  // namespace
}  // namespace cohort::test::town_verbs
