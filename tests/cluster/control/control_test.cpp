// SPDX-License-Identifier: BSL-1.0
// A control socket, its clients, and those that do not behave.
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../../include/cohort/cluster/control/client.hpp"
#include "../../../include/cohort/cluster/control/server.hpp"
#include "../../process/directory.hpp"
#include "../../support/cancellation.hpp"
#include "../running.hpp"
#include "../server.hpp"
#include "../service/manager.hpp"
#include "../switch_file.hpp"

namespace cohort::test::control_test {
namespace {

bool exists(const std::string& path) {
  struct stat found = {};
  return ::lstat(path.c_str(), &found) == 0;
}

/// Waits for a primary that another process starts: the file is there a moment before somebody listens (bind(2),
/// listen(2)).
asio::awaitable<control_client> connect_once_it_listens(std::string path) {
  std::optional<control_client> client;
  const auto end = std::chrono::steady_clock::now() + patience / 2;
  while (!client) {
    try {
      client = co_await control_client::connect(path);
    } catch (const std::system_error&) {
      if (std::chrono::steady_clock::now() >= end) throw;
    }
    if (!client) co_await sleep(1ms);
  }
  co_return std::move(*client);
}

/// A cluster that has a control socket.
class managed : public std::enable_shared_from_this<managed> {
 public:
  explicit managed(std::shared_ptr<running> r, std::string group = {})
      : cluster_of(std::move(r)), control(cluster_of->primary, path(), {}, std::move(group)) {}

  static asio::awaitable<std::shared_ptr<managed>> ready(cluster_options options) {
    auto running_one = co_await running::ready(std::move(options));
    co_return start(std::move(running_one));
  }

  /// A cluster that is never run: what its control socket does with clients is all that matters.
  static asio::awaitable<std::shared_ptr<managed>> idle(std::string group = {}) {
    const auto executor = co_await asio::this_coro::executor;
    co_return start(std::make_shared<running>(executor, options_for(distribution::shared, 1)), group);
  }

  static std::shared_ptr<managed> start(std::shared_ptr<running> of, std::string group = {}) {
    auto self = std::make_shared<managed>(std::move(of), std::move(group));
    asio::co_spawn(self->control_executor(), self->control.run(), [self](std::exception_ptr failure) {
      self->failure = failure;
      self->over = true;
    });
    return self;
  }

  asio::any_io_executor control_executor() { return cluster_of->primary.get_executor(); }
  std::string path() const { return here / "control"; }

  asio::awaitable<control_client> client() { return control_client::connect(path()); }

  asio::awaitable<void> end() {
    control.stop();
    const bool ended = co_await eventually([this] { return over; });
    CHECK_MESSAGE(ended, "the control socket has not ended");
    CHECK_FALSE(failure);
    CHECK_FALSE(exists(path()));
  }

  /// Stops the cluster, gives the control socket all events, and ends it.
  asio::awaitable<void> stop() {
    const int status = co_await cluster_of->stop();
    CHECK(status == 0);
    co_await end();
  }

  directory here;
  std::shared_ptr<running> cluster_of;
  control_server control;
  std::exception_ptr failure;
  bool over = false;
};

/// A connection that speaks what it likes.
descriptor connect_raw(const std::string& path) {
  descriptor result(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const asio::local::stream_protocol::endpoint to(path);
  REQUIRE(::connect(result.get(), to.data(), static_cast<socklen_t>(to.size())) == 0);
  return result;
}

bool hung_up(const descriptor& socket) {
  pollfd look{socket.get(), POLLIN, 0};
  return ::poll(&look, 1, 0) > 0 && (look.revents & POLLHUP) != 0;
}

asio::awaitable<bool> is_dropped(const descriptor& socket) {
  return eventually([&socket] { return hung_up(socket); });
}

ASYNC_TEST("a client of the control socket sees what stats() says") {
  const auto m = co_await managed::ready(options_for(distribution::round_robin, 2));
  auto& primary = m->cluster_of->primary;
  auto client = co_await m->client();
  CHECK(client.pid() == ::getpid());

  const pid_t victim = m->cluster_of->pid(2);
  const auto killed = co_await client.kill_worker(2);
  CHECK(killed.success());
  co_await m->cluster_of->until(event_kind::ready, 3);
  const auto seen = co_await client.stats();
  const auto real = primary.stats();
  CHECK(seen.wanted == 2);
  CHECK(seen.ready == 2);
  CHECK(seen.restarts == 1);
  CHECK(seen.generation == 1);
  REQUIRE(seen.listeners.size() == 1);
  CHECK(seen.listeners[0].address == to_string(m->cluster_of->at()));
  REQUIRE(seen.listeners[0].queue);
  CHECK(seen.listeners[0].queue->waiting == 0);
  CHECK(seen.listeners[0].queue->limit > 0);
  REQUIRE(seen.workers.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(seen.workers[i].slot == i + 1);
    CHECK(seen.workers[i].pid == real.workers[i].pid);
    CHECK(seen.workers[i].state == worker_state::ready);
  }
  CHECK(seen.workers[1].pid != victim);
  REQUIRE(seen.slots.size() == 1);
  CHECK(seen.slots[0].slot == 2);
  CHECK(seen.slots[0].restarts == 1);
  REQUIRE(seen.slots[0].last_exit);
  CHECK(*seen.slots[0].last_exit == exit_status::killed(SIGKILL));
  CHECK(seen.slots[0].last_exit->usage().wall_time == real.slots[0].last_exit->usage().wall_time);
  CHECK(seen.slots[0].last_reason == real.slots[0].last_reason);
  CHECK(seen.slots[0].last_trouble == "killed by SIGKILL (9)");
  co_await m->stop();
}

ASYNC_TEST("a client sees the connections that the workers were given, until they have ended") {
  for (const auto how : {distribution::round_robin, distribution::least_connections}) {
    auto options = options_for(how, 2);
    options.ping_interval = 10ms;
    const auto m = co_await managed::ready(options);
    auto control = co_await m->client();
    std::size_t leased = 0;
    const auto count = [&]() -> asio::awaitable<void> {
      const auto stats = co_await control.stats();
      leased = 0;
      for (const auto& each : stats.workers) leased += each.leased;
    };
    const auto until = [&](std::size_t wanted) -> asio::awaitable<void> {
      for (int i = 0; i < 1000; ++i) {
        co_await count();
        if (leased == wanted) break;
        co_await sleep(1ms);
      }
      CHECK(leased == wanted);
    };
    std::vector<client> clients;
    for (int i = 0; i < 3; ++i) {
      clients.push_back(co_await client::connect(m->cluster_of->at()));
      const auto answer = co_await clients.back().ask("echo on");
      CHECK(answer == "on");
    }
    co_await until(3);
    clients.pop_back();
    co_await until(2);
    clients.clear();
    co_await until(0);
    co_await m->stop();
  }
}

ASYNC_TEST("a client sees which slot was given up") {
  switch_file broken;
  auto options = options_for(distribution::round_robin, 2);
  restart_policy policy;
  policy.max_failed_boots = 1;
  policy.on_give_up = give_up_action::degrade;
  options.restart = policy;
  options.program = helper("worker", broken.argument());
  const auto m = co_await managed::ready(options);
  auto client = co_await m->client();
  broken.on();
  const auto killed = co_await client.kill_worker(2);
  CHECK(killed.success());
  co_await m->cluster_of->until(event_kind::degraded);
  const auto seen = co_await client.stats();
  REQUIRE(seen.slots.size() == 1);
  CHECK(seen.slots[0].slot == 2);
  CHECK(seen.slots[0].degraded);
  broken.off();
  const auto reloaded = co_await client.reload();
  CHECK(reloaded.success());
  const auto again = co_await client.stats();
  for (const auto& each : again.slots) CHECK_FALSE(each.degraded);
  co_await m->stop();
}

ASYNC_TEST("a client reloads, scales and stops the cluster") {
  const auto m = co_await managed::ready(options_for(distribution::shared, 1));
  auto client = co_await m->client();
  const auto reloaded = co_await client.reload();
  CHECK(reloaded.success());
  CHECK(reloaded.generation == 2);
  CHECK(reloaded.replaced == 1);
  const std::string who = "asked by user " + std::to_string(::geteuid()) + ", pid " + std::to_string(::getpid());
  CHECK(m->cluster_of->last(event_kind::reloading).text == who);

  const auto more = co_await client.scale(2);
  CHECK(more.success());
  CHECK(m->cluster_of->primary.size() == 2);
  for (const unsigned wrong : {0u, 1025u}) {
    const auto refused = co_await client.scale(wrong);
    CHECK(refused.reason == "scale: want 1 to 1024 workers, got " + std::to_string(wrong));
  }
  CHECK(m->cluster_of->primary.size() == 2);
  const auto nobody = co_await client.kill_worker(7);
  CHECK(nobody.reason == "no worker in slot 7");

  const auto stopping = co_await client.stop();
  CHECK(stopping.success());
  CHECK(m->cluster_of->last(event_kind::stopping).text == who);
  const auto late = co_await client.scale(3);
  CHECK(late.reason == "scale: the cluster stops");
  const auto aborted = co_await client.reload();
  CHECK(aborted.reason == "the cluster stops");
  const int status = co_await m->cluster_of->ended();
  CHECK(status == 0);
  const auto stats = co_await client.stats();  // to the very end
  CHECK(stats.stopping);
  m->control.stop();
  co_await client.wait_end();
  co_await m->end();
}

ASYNC_TEST("followers see every event, each for itself, and the end") {
  const auto m = co_await managed::idle();
  auto first = co_await m->client(), second = co_await m->client();
  std::vector<std::string> seen[2];
  std::optional<control_protocol::outcome> ends[2];
  control_client* const clients[] = {&first, &second};
  for (std::size_t i = 0; i < 2; ++i) {
    const auto note = [&seen, i](const cluster_event& event) { seen[i].push_back(to_string(event)); };
    asio::co_spawn(m->control_executor(), clients[i]->follow(note),
                   [&ends, i](std::exception_ptr failure, control_protocol::outcome outcome) {
                     if (!failure) ends[i] = std::move(outcome);
                   });
  }
  cluster_event exited(event_kind::exited, 3, 44);
  exited.status = exit_status::exited(7);
  cluster_event ready(event_kind::ready, 3, 45);
  ready.after = 2100us;
  const cluster_event draining(event_kind::draining, 3, 45, std::string(1000, 'x'));
  bool heard = false;
  while (!heard) {  // a call is on its way for a while
    m->control.note(ready);
    co_await yield();
    heard = !seen[0].empty() && !seen[1].empty();
  }
  m->control.note(draining);
  m->control.note(exited);
  co_await m->end();
  const bool ended = co_await eventually([&] { return ends[0] && ends[1]; });
  CHECK(ended);
  for (std::size_t i = 0; i < 2; ++i) {
    REQUIRE(seen[i].size() >= 3);
    CHECK(ends[i]->success());
    CHECK(seen[i].front() == "worker 3 ready, pid 45 (2.1 ms)");
    CHECK(seen[i][seen[i].size() - 2] == "worker 3 draining, pid 45: " + std::string(256, 'x'));
    CHECK(seen[i].back() == "worker 3 exited, pid 44: status 7");
  }
}

ASYNC_TEST("a follower is told at the end what it has not heard yet") {
  const auto m = co_await managed::idle();
  auto client = co_await m->client();
  std::size_t seen = 0;
  std::optional<control_protocol::outcome> end;
  bool following = false;
  const auto note = [&seen, &following](const cluster_event& event) {
    following = true;
    seen += event.what == event_kind::draining ? 1 : 0;
  };
  asio::co_spawn(m->control_executor(), client.follow(note),
                 [&end](std::exception_ptr failure, control_protocol::outcome outcome) {
                   if (!failure) end = std::move(outcome);
                 });
  while (!following) {  // a call is on its way for a while
    m->control.note(cluster_event(event_kind::started, 1, 2));
    co_await yield();
  }
  // More than the kernel takes at once, and nothing before that.
  const cluster_event word(event_kind::draining, 1, 2, std::string(256, 'x'));
  m->control.note(word);
  const bool caught_up = co_await eventually([&seen] { return seen == 1; });
  REQUIRE(caught_up);
  for (std::size_t i = 0; i < control_server::max_behind; ++i) m->control.note(word);
  co_await m->end();
  const bool ended = co_await eventually([&end] { return end.has_value(); });
  CHECK(ended);
  CHECK(seen == 1 + control_server::max_behind);
}

ASYNC_TEST("two clients reload at once: one after the other") {
  const auto m = co_await managed::ready(options_for(distribution::shared, 1));
  auto first = co_await m->client(), second = co_await m->client();
  std::optional<reload_result> results[2];
  control_client* const clients[] = {&first, &second};
  for (std::size_t i = 0; i < 2; ++i) {
    asio::co_spawn(m->control_executor(), clients[i]->reload(),
                   [&results, i](std::exception_ptr, reload_result result) { results[i] = std::move(result); });
  }
  const bool both = co_await eventually([&] { return results[0] && results[1]; });
  REQUIRE(both);
  CHECK(results[0]->success());
  CHECK(results[1]->success());
  CHECK(results[0]->generation + results[1]->generation == 2 + 3);
  CHECK(m->cluster_of->count(event_kind::reloaded) == 2);
  co_await m->stop();
}

ASYNC_TEST("a reload goes on when the client that asked for it is killed") {
  const auto m = co_await managed::ready(options_for(distribution::shared, 1));
  auto client = co_await spawn(helper("admin", m->path(), "reload"));
  co_await m->cluster_of->until(event_kind::reloading);
  client.signal(SIGKILL);
  const auto status = co_await client.wait();
  CHECK(status == exit_status::killed(SIGKILL));
  co_await m->cluster_of->until(event_kind::reloaded);
  auto next = co_await m->client();
  const auto stats = co_await next.stats();
  CHECK(stats.generation == 2);
  co_await m->stop();
}

ASYNC_TEST("a client upgrades the primary, and finds the new one, which knows its service manager") {
  const subreaper adopts;
  const directory here;
  const std::string path = here / "control";
  notify_socket manager;
  const variable where("NOTIFY_SOCKET", manager.name());
  auto s = co_await server::ready("control=" + path);
  co_await manager.until("READY=1");
  auto client = co_await control_client::connect(path);
  const auto result = co_await client.upgrade();
  CHECK_MESSAGE(result.success(), result.reason);
  co_await client.wait_end();
  co_await s->until(kind::upgraded);
  CHECK(result.pid == s->pids(kind::upgraded).back());
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::exited(0));

  auto next = co_await connect_once_it_listens(path);
  CHECK(next.pid() == result.pid);
  co_await manager.until("MAINPID=" + std::to_string(result.pid));
  CHECK(manager.count("READY=1") == 2);
  const auto stopping = co_await next.stop();
  CHECK(stopping.success());
  co_await next.wait_end();
  const int last = co_await adopted(result.pid);
  CHECK(last == 0);
}

ASYNC_TEST("a client hears why an upgrade has failed, and the old primary goes on") {
  const subreaper adopts;
  const directory here;
  switch_file broken;
  auto s = co_await server::ready(broken.argument(), "control=" + (here / "control"));
  auto client = co_await control_client::connect(here / "control");
  broken.on();
  const auto failed = co_await client.upgrade();
  broken.off();
  CHECK(failed.reason.starts_with("it did not get ready: primary " + std::to_string(failed.pid) + " exited with 1"));
  const auto stats = co_await client.stats();
  CHECK(stats.ready == 2);
  CHECK_FALSE(stats.stopping);
  const auto stopping = co_await client.stop();
  CHECK(stopping.success());
  const auto late = co_await client.upgrade();
  CHECK(late.reason == "the cluster stops");
  co_await client.wait_end();
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("an upgrade goes on when the client that asked for it is killed") {
  const subreaper adopts;
  const directory here;
  switch_file hold;
  const std::string path = here / "control", file = hold.argument().substr(hold.argument().find('=') + 1);
  auto s = co_await server::ready("hold-by=" + file, "control=" + path);
  hold.on();
  auto client = co_await spawn(helper("admin", path, "upgrade"));
  co_await s->until(kind::upgrading);
  client.signal(SIGKILL);
  const auto killed = co_await client.wait();
  CHECK(killed == exit_status::killed(SIGKILL));
  hold.off();
  co_await s->until(kind::upgraded);
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::exited(0));
  const pid_t next = s->pids(kind::upgraded).back();
  ::kill(next, SIGTERM);
  const int last = co_await adopted(next);
  CHECK(last == 0);
}

ASYNC_TEST("the file is for its user alone, and goes with the control socket") {
  const mode_t before = ::umask(0);
  const auto m = co_await managed::idle();
  ::umask(before);
  struct stat found = {};
  REQUIRE(::lstat(m->path().c_str(), &found) == 0);
  CHECK(S_ISSOCK(found.st_mode));
  CHECK((found.st_mode & 07777) == 0600);
  co_await m->end();
}

ASYNC_TEST("a file that nobody answers at is replaced, and one that somebody answers at is an error") {
  const directory here;
  running r(co_await asio::this_coro::executor, options_for(distribution::shared, 1));
  const std::string path = here / "control";
  {
    const descriptor left(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const asio::local::stream_protocol::endpoint at(path);
    REQUIRE(::bind(left.get(), at.data(), static_cast<socklen_t>(at.size())) == 0);
  }
  const auto failure_of = [&](const std::string& where) {
    try {
      const control_server control(r.primary, where);
    } catch (const std::system_error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  {
    const control_server control(r.primary, path);
    CHECK(failure_of(path) == "listen unix:" + path + ": Address already in use");
    CHECK(exists(path));
  }
  CHECK_FALSE(exists(path));
  CHECK(failure_of("/nope/control") == "listen unix:/nope/control: No such file or directory");
  const std::string long_name = "/" + std::string(107, 'x');
  CHECK(failure_of(long_name) == "control socket " + long_name + ": File name too long");
  CHECK(failure_of("") == "control socket \"\": Invalid argument");
}

ASYNC_TEST("a control socket with an abstract name needs no file") {
  running r(co_await asio::this_coro::executor, options_for(distribution::shared, 1));
  const std::string name = "@cohort-test-" + std::to_string(::getpid());
  control_server control(r.primary, name);
  bool over = false;
  asio::co_spawn(r.primary.get_executor(), control.run(), [&over](std::exception_ptr) { over = true; });
  {
    auto client = co_await control_client::connect(name);
    const auto stats = co_await client.stats();
    CHECK(stats.wanted == 0);
  }
  control.stop();
  const bool ended = co_await eventually([&over] { return over; });
  CHECK(ended);
  const auto gone = co_await error_of(control_client::connect(name));
  CHECK(gone == std::errc::connection_refused);
}

ASYNC_TEST("who connects where nobody serves is told why") {
  const directory here;
  const std::string path = here / "control";
  const auto nothing = co_await text_of(control_client::connect(path));
  CHECK(nothing == "connect " + path + ": No such file or directory");
  {
    const descriptor left(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const asio::local::stream_protocol::endpoint at(path);
    REQUIRE(::bind(left.get(), at.data(), static_cast<socklen_t>(at.size())) == 0);
  }
  const auto stale = co_await text_of(control_client::connect(path));
  CHECK(stale == "connect " + path + ": Connection refused");
}

ASYNC_TEST("another user is not served, whatever the permissions of the file" * doctest::skip(::geteuid() != 0)) {
  const auto m = co_await managed::idle();
  const std::string path = m->path();
  // Where another user gets to it, and as if somebody had opened it to all.
  REQUIRE(::chmod(path.substr(0, path.rfind('/')).c_str(), 0755) == 0);
  constexpr uid_t somebody = 65534;

  REQUIRE(::seteuid(somebody) == 0);
  const auto closed = co_await text_of(m->client());
  REQUIRE(::seteuid(0) == 0);
  CHECK(closed == "connect " + path + ": Permission denied");

  REQUIRE(::chmod(path.c_str(), 0666) == 0);
  REQUIRE(::seteuid(somebody) == 0);
  const descriptor other = connect_raw(path);  // the kernel notes who it is now
  REQUIRE(::seteuid(0) == 0);
  control_protocol::client_channel line(m->control_executor(), descriptor(::dup(other.get())));
  const auto word = co_await line.receive();
  REQUIRE(word);
  REQUIRE(std::holds_alternative<control_protocol::refused>(*word));
  CHECK(std::get<control_protocol::refused>(*word).reason == "only root and user 0 may, and this is user 65534");
  const auto end = co_await line.receive();
  CHECK_FALSE(end);
  CHECK(hung_up(other));

  auto client = co_await m->client();
  const auto stats = co_await client.stats();
  CHECK(stats.generation == 1);
  co_await m->end();
}

ASYNC_TEST("members of the group of a control socket are served too, and nobody else" *
           doctest::skip(::geteuid() != 0)) {
  constexpr gid_t operators = 65533;
  const auto m = co_await managed::idle(std::to_string(operators));
  const std::string path = m->path();
  REQUIRE(::chmod(path.substr(0, path.rfind('/')).c_str(), 0755) == 0);
  constexpr uid_t somebody = 65534;

  REQUIRE(::seteuid(somebody) == 0);
  const auto closed = co_await text_of(m->client());
  REQUIRE(::seteuid(0) == 0);
  CHECK(closed == "connect " + path + ": Permission denied");

  REQUIRE(::setegid(operators) == 0);
  REQUIRE(::seteuid(somebody) == 0);
  const descriptor member = connect_raw(path);
  REQUIRE(::seteuid(0) == 0);
  REQUIRE(::setegid(0) == 0);
  control_protocol::client_channel line(m->control_executor(), descriptor(::dup(member.get())));
  const auto word = co_await line.receive();
  REQUIRE(word);
  CHECK(std::holds_alternative<control_protocol::welcome>(*word));
  line.close();
  co_await m->end();

  const auto c = std::make_shared<running>(m->control_executor(), options_for(distribution::shared, 1));
  std::string refused;
  try {
    control_server nowhere(c->primary, "@cohort-test-" + std::to_string(::getpid()), {}, "0");
  } catch (const std::system_error& error) {
    refused = error.what();
  }
  CHECK(refused.ends_with(": a group wants a path: invalid option"));
}

/// Follows events, and so is busy, until the control socket ends.
asio::awaitable<void> follow(std::shared_ptr<control_client> who) {
  co_await who->follow([](const cluster_event&) {});
}

ASYNC_TEST("clients that ask nothing make room for others, the longest silent one first") {
  const auto m = co_await managed::idle();
  std::vector<descriptor> silent;
  for (std::size_t i = 0; i < control_server::max_clients; ++i) silent.push_back(connect_raw(m->path()));
  const auto client = std::make_shared<control_client>(co_await m->client());
  const bool dropped = co_await is_dropped(silent.front());
  CHECK(dropped);
  for (std::size_t i = 1; i < silent.size(); ++i) CHECK_FALSE(hung_up(silent[i]));
  std::vector<control_client> others;
  for (std::size_t i = 1; i < silent.size(); ++i) {  // the one that asks stays
    const auto stats = co_await client->stats();
    CHECK(stats.workers.empty());
    others.push_back(co_await m->client());
    const bool next = co_await is_dropped(silent[i]);
    CHECK(next);
  }
  const auto stats = co_await client->stats();
  CHECK(stats.workers.empty());
  co_await m->end();
}

ASYNC_TEST("there is an end to the clients that are busy, and room again when one leaves") {
  const auto m = co_await managed::idle();
  task_group followers(m->control_executor());
  std::vector<std::weak_ptr<asio::cancellation_signal>> ends;
  for (std::size_t i = 0; i < control_server::max_clients; ++i) {
    auto client = std::make_shared<control_client>(co_await m->client());
    ends.push_back(followers.start(follow(client), ignored("it ends with the control socket")));
    const auto stats = co_await client->stats();  // its follow has come first
    CHECK(stats.workers.empty());
  }
  for (int i = 0; i < 20; ++i) {
    const auto refused = co_await text_of(m->client());
    CHECK(refused == "connect " + m->path() + ": there are 16 clients already: Connection refused");
  }
  if (const auto one = ends.back().lock()) one->emit(asio::cancellation_type::all);
  bool again = false;
  while (!again) {
    const auto error = co_await error_of(m->client());
    again = !error;
  }
  co_await m->end();
  co_await followers.wait_empty();
}

ASYNC_TEST("a control socket whose file was removed is bound anew when somebody looks, and its clients stay") {
  const auto m = co_await managed::idle();
  auto client = co_await m->client();
  m->control.look();  // nothing is wrong
  ::unlink(m->path().c_str());
  const auto lost = co_await error_of(m->client());
  CHECK(lost == std::error_code(ENOENT, std::system_category()));
  m->control.look();
  auto other = co_await m->client();
  const auto theirs = co_await other.stats();
  CHECK(theirs.workers.empty());
  const auto mine = co_await client.stats();
  CHECK(mine.workers.empty());
  co_await m->end();
}

ASYNC_TEST("a server whose control socket was removed has it again after SIGUSR1, and after SIGHUP") {
  const directory here;
  const std::string path = here / "control";
  auto s = co_await server::ready("control=" + path);
  for (const int signal : {SIGUSR1, SIGHUP}) {
    ::unlink(path.c_str());
    s->primary.signal(signal);
    auto client = co_await connect_once_it_listens(path);
    const auto stats = co_await client.stats();
    CHECK(stats.wanted == 2);
  }
  s->primary.signal(SIGTERM);
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
  CHECK_FALSE(exists(path));
}

ASYNC_TEST("what is no channel, or speaks out of turn, is disconnected and harms nobody") {
  const auto m = co_await managed::idle();
  auto client = co_await m->client();
  const std::string pieces[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", std::string(100'000, '\xff'),
                                std::string(100'000, '\0')};
  for (const auto& each : pieces) {
    const descriptor socket = connect_raw(m->path());
    (void)::send(socket.get(), each.data(), each.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    const bool dropped = co_await is_dropped(socket);
    CHECK(dropped);
  }
  control_protocol::client_channel line(m->control_executor(), connect_raw(m->path()));
  const control_protocol::stop word;
  co_await line.send(word);
  const auto welcome = co_await line.receive();
  CHECK(welcome.has_value());
  const auto end = co_await line.receive();
  CHECK_FALSE(end);
  const auto stats = co_await client.stats();
  CHECK_FALSE(stats.stopping);
  co_await m->end();
}

ASYNC_TEST("a handle that a client sends is given back") {
  const auto m = co_await managed::idle();
  control_protocol::client_channel line(m->control_executor(), connect_raw(m->path()));
  const control_protocol::stop word;
  descriptor mine(::dup(0));
  const auto error = co_await error_of(line.send_handle(word, mine));
  CHECK(error == errc::handle_refused);
  co_await m->end();
}

ASYNC_TEST("a follower that does not read is disconnected, and the others see all") {
  const auto m = co_await managed::idle();
  std::size_t seen = 0, told = 0;
  bool good_follows = false;
  const auto count = [&seen, &good_follows](const cluster_event& event) {
    good_follows = true;
    seen += event.what == event_kind::draining ? 1 : 0;
  };
  auto good = co_await m->client();
  asio::co_spawn(m->control_executor(), good.follow(count),
                 [](std::exception_ptr, const control_protocol::outcome&) {});
  descriptor silent;
  {
    control_protocol::client_channel line(m->control_executor(), connect_raw(m->path()));
    silent.reset(::dup(line.native_handle()));
    bool following = false;
    const auto note = [&following](const control_protocol::happened&) { following = true; };
    const control_protocol::follow question;
    asio::co_spawn(m->control_executor(), line.call<control_protocol::outcome>(question, note),
                   [](std::exception_ptr, const control_protocol::outcome&) {});
    while (!following || !good_follows) {
      m->control.note(cluster_event(event_kind::started, 1, 2));
      co_await yield();
    }
  }  // the connection stays, in `silent`
  bool dropped = false;
  const cluster_event long_one(event_kind::draining, 1, 2, std::string(256, 'x'));
  while (!dropped && told < 100'000) {
    m->control.note(long_one);
    ++told;
    const bool has = co_await eventually([&] { return seen == told; });
    if (!has) break;
    dropped = hung_up(silent);
  }
  CHECK(dropped);
  CHECK(seen == told);
  co_await m->end();
}

ASYNC_TEST("clients that ask and do not read are no burden, and cannot hold up the end") {
  const auto m = co_await managed::idle();
  control_protocol::client_channel line(m->control_executor(), connect_raw(m->path()));
  descriptor silent(::dup(line.native_handle()));
  const control_protocol::get_stats question;
  int answered = 0;
  for (int i = 0; i < 2'000; ++i) {
    asio::co_spawn(m->control_executor(), line.call<cluster_stats>(question),
                   [&answered](std::exception_ptr failure, const cluster_stats&) { answered += failure ? 0 : 1; });
  }
  co_await yield();
  line.close();  // `silent` holds it open, and nobody reads
  auto other = co_await m->client();
  const auto stats = co_await other.stats();
  CHECK(stats.generation == 1);
  co_await m->end();
  CHECK(hung_up(silent));
}

ASYNC_TEST("run() that is cancelled disconnects all") {
  running r(co_await asio::this_coro::executor, options_for(distribution::shared, 1));
  const directory here;
  control_server control(r.primary, here / "control");
  task_group tasks(r.primary.get_executor());
  std::exception_ptr failure;
  tasks.start(control.run(), [&failure](std::exception_ptr thrown) { failure = thrown; });
  auto client = co_await control_client::connect(here / "control");
  tasks.cancel();
  co_await tasks.wait_empty();
  const bool told = co_await eventually([&] { return failure != nullptr; });
  CHECK(told);
  co_await client.wait_end();
  CHECK_FALSE(exists(here / "control"));
}

PLAIN_TEST("a client that is cancelled can ask again") {
  cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto m = co_await managed::idle();
    auto client = co_await m->client();
    auto stats = co_await cancelled(client.stats());
    if (!stats) stats = co_await client.stats();
    CHECK(stats->generation == 1);
    co_await m->end();
  });
}

PLAIN_TEST("a connect that is cancelled leaves nothing") {
  cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto m = co_await managed::idle();
    auto client = co_await cancelled(m->client());
    if (!client) client = co_await m->client();
    CHECK(client->pid() == ::getpid());
    co_await m->end();
  });
}

ASYNC_TEST("serve() has a control socket when it is told to, until all workers are gone") {
  const directory here;
  const std::string path = here / "control";
  auto primary = co_await spawn(helper("serve", "listen=127.0.0.1:0", "workers=1", "control=" + path).out(stdio::pipe));
  auto client = co_await connect_once_it_listens(path);
  CHECK(client.pid() == primary.pid());
  std::vector<std::string> seen;
  std::optional<control_protocol::outcome> followed;
  const auto note = [&seen](const cluster_event& event) { seen.push_back(to_string(event)); };
  asio::co_spawn(co_await asio::this_coro::executor, client.follow(note),
                 [&followed](std::exception_ptr failure, control_protocol::outcome outcome) {
                   if (!failure) followed = std::move(outcome);
                 });
  cluster_stats stats;
  while (stats.ready == 0) stats = co_await client.stats();
  auto second = co_await spawn(
      helper("serve", "listen=127.0.0.1:0", "workers=1", "control=" + path).out(stdio::null).err(stdio::pipe));
  const auto complaint = co_await second.err().read_all();
  CHECK(complaint == "listen unix:" + path + ": Address already in use\n");
  const auto refused = co_await second.wait();
  CHECK(refused == exit_status::exited(1));

  const auto stopping = co_await client.stop();
  CHECK(stopping.success());
  co_await client.wait_end();
  const bool ended = co_await eventually([&] { return followed.has_value(); });
  CHECK(ended);
  const pid_t worker = stats.workers.at(0).pid;
  REQUIRE_FALSE(seen.empty());
  CHECK(seen.back() == "worker 1 exited, pid " + std::to_string(worker) + ": status 0");
  const auto status = co_await primary.wait();
  CHECK(status == exit_status::exited(0));
  CHECK_FALSE(exists(path));
}

}  // namespace
}  // namespace cohort::test::control_test
