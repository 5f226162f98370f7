// SPDX-License-Identifier: BSL-1.0
// The main scenes of the library, and the processes that they start.
#include "scenes.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "../../include/cohort/cluster/cluster.hpp"
#include "../../include/cohort/core/asio_error.hpp"
#include "../../include/cohort/core/event.hpp"
#include "../../include/cohort/core/timeout.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/ipc/handle.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "../../include/cohort/messaging/messenger.hpp"
#include "../../include/cohort/net/endpoint.hpp"
#include "../../include/cohort/process/exec.hpp"
#include "../../include/cohort/process/spawn.hpp"
#include "../../include/cohort/worker/run_worker.hpp"
#include "line_server.hpp"
#include "scarcity.hpp"
#include "verb.hpp"

namespace cohort::test::scarce_verbs {
namespace {

using namespace std::chrono_literals;

struct text {
  std::string value;
};

struct answer {
  std::string value;
};

/// What a scene expects of itself: what fails is not what the memory was refused to.
void expect(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

using channel_of_texts = channel<std::variant<text, answer>, std::variant<text, answer>>;

asio::awaitable<void> spawn_scene() {
  auto program = command(main_arguments[0], "echo", "a line");
  auto started = co_await spawn(std::move(program.out(stdio::pipe)));
  const auto said = co_await started.out().read_all();
  const auto status = co_await started.wait();
  expect(said == "a line\n" && status.success(), "the child has not said its line");
  auto sleeper = co_await spawn(command(main_arguments[0], "sleep", "60000"));
  const auto stopped = co_await sleeper.stop();
  expect(stopped.signal() == SIGTERM, "the sleeper has not been stopped");
}

asio::awaitable<void> exec_scene() {
  auto options = exec_options();
  options.input = "some text";
  auto program = command(main_arguments[0], "cat");
  const auto got = co_await exec_file(std::move(program), options);
  expect(got.status.success() && got.out == "some text", "cat has said something else");
}

asio::awaitable<answer> reply(text question) {
  answer result;
  result.value = "re: " + question.value;
  co_return result;
}

/// Runs one coroutine beside another, and waits for the end of both whatever becomes of them.
asio::awaitable<void> both(asio::awaitable<void> beside, asio::awaitable<void> here, std::function<void()> end) {
  const auto executor = co_await asio::this_coro::executor;
  event ended(executor);
  std::exception_ptr failure, other;
  asio::co_spawn(executor, std::move(beside), [&](std::exception_ptr thrown) {
    other = thrown;
    ended.set();
  });
  try {
    co_await std::move(here);
  } catch (...) {
    failure = std::current_exception();
    end();
  }
  co_await ended.wait();
  if (failure) std::rethrow_exception(failure);
  if (other) std::rethrow_exception(other);
}

asio::awaitable<void> answer_calls(channel_of_texts& there) {
  const auto serve = [](text question) { return reply(std::move(question)); };
  try {
    co_await there.serve_calls(serve);
  } catch (...) {
    there.close();
    throw;
  }
}

asio::awaitable<void> converse(channel_of_texts& here, channel_of_texts& there) {
  text question;
  question.value = std::string(1000, 'q');
  const auto got = co_await here.call<answer>(question);
  expect(got.value == "re: " + question.value, "another answer");
  for (int i = 0; i < 4; ++i) co_await there.send(question);
  for (int i = 0; i < 4; ++i) {
    const auto heard = co_await here.receive();
    if (!heard) throw_error("receive", errc::peer_closed);
    expect(std::get<text>(*heard).value == question.value, "another message");
  }
  co_await here.disconnect();
}

/// Both ends of a channel: a call, and messages the other way.
asio::awaitable<void> channel_scene() {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel_of_texts here(executor, std::move(ends.first)), there(executor, std::move(ends.second));
  const auto end = [&] {
    here.close();
    there.close();
  };
  co_await both(answer_calls(there), converse(here, there), end);
}

asio::awaitable<void> take_handles(channel_of_texts& there, std::size_t count) {
  try {
    for (std::size_t i = 0; i < count; ++i) {
      auto got = co_await there.receive_handle();
      if (!got) throw_error("receive_handle", errc::peer_closed);
    }
    co_await there.flush();
  } catch (...) {
    there.close();
    throw;
  }
}

asio::awaitable<void> give_handles(channel_of_texts& here, std::size_t count) {
  text with;
  with.value = "take it";
  for (std::size_t i = 0; i < count; ++i) {
    descriptor one(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    co_await here.send_handle(with, std::move(one));
  }
}

/// Descriptors, each a lease.
asio::awaitable<void> lease_scene() {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  channel_of_texts here(executor, std::move(ends.first)), there(executor, std::move(ends.second));
  const auto end = [&] {
    here.close();
    there.close();
  };
  co_await both(take_handles(there, 3), give_handles(here, 3), end);
}

struct protocol {
  using to_child = std::variant<text, answer>;
  using to_parent = std::variant<text, answer>;
};

/// A child with a channel, which answers one message and ends.
asio::awaitable<void> peer_scene() {
  auto child = co_await spawn<protocol>(command(main_arguments[0], "scarce-child"));
  text question;
  question.value = "who is there?";
  co_await child.send(question);
  const auto heard = co_await child.receive();
  if (!heard) throw_error("receive", errc::peer_closed);
  co_await child.disconnect();
  const auto status = co_await child.wait();
  expect(status.success(), "the child has failed");
}

cluster_options options_for(const char* verb) {
  cluster_options options;
  options.listen = {"127.0.0.1:0"};
  options.workers = 1;
  options.program = command(main_arguments[0], verb);
  return options;
}

/// Waits until something listens and somebody serves; empty when the cluster has ended instead.
asio::awaitable<std::optional<asio::ip::tcp::endpoint>> until_ready(cluster& primary) {
  std::optional<asio::ip::tcp::endpoint> at;
  for (;;) {
    const auto next = co_await primary.next_event();
    if (!next) co_return std::nullopt;
    if (next->what == cluster_event::kind::listening) at = parse_endpoint(next->text);
    if (next->what == cluster_event::kind::ready && at) co_return at;
  }
}

/// One connection for one request; empty when no answer comes.
asio::awaitable<std::string> ask_once(asio::ip::tcp::endpoint to, std::string request) {
  asio::ip::tcp::socket socket(co_await asio::this_coro::executor);
  detail::asio_error error;
  co_await socket.async_connect(to, asio::redirect_error(asio::use_awaitable, error));
  if (!error) socket.write_some(asio::buffer(request), error);
  std::string got;
  char piece[64];
  while (!error && !got.ends_with('\n')) {
    const auto size =
        co_await socket.async_read_some(asio::buffer(piece), asio::redirect_error(asio::use_awaitable, error));
    got.append(piece, size);
  }
  co_return got;
}

/// One request may be lost with the memory for it. The next ones are answered, or the cluster has ended with an error.
asio::awaitable<void> request(cluster& primary, asio::ip::tcp::endpoint at) {
  std::string got;
  for (int tries = 0; tries < 3 && got != "on\n" && !primary.is_stopping(); ++tries) {
    got = co_await ask_once(at, "echo on\n");
  }
  expect(got == "on\n" || primary.is_stopping(), "three requests, and no answer");
}

using use_of_cluster = asio::awaitable<void> (*)(cluster& primary, asio::ip::tcp::endpoint at);

asio::awaitable<void> use_when_ready(cluster& primary, use_of_cluster use) {
  const auto at = co_await until_ready(primary);
  if (at) co_await use(primary, *at);
}

asio::awaitable<void> run_cluster(cluster_options options, use_of_cluster use) {
  const auto executor = co_await asio::this_coro::executor;
  const std::string why = "the scene ends, which takes memory to say";
  cluster primary(executor, std::move(options));
  event ended(executor);
  std::exception_ptr failure, other;
  asio::co_spawn(executor, primary.run(), [&](std::exception_ptr thrown, int) {
    other = thrown;
    ended.set();
  });
  try {
    co_await with_timeout(use_when_ready(primary, use), std::chrono::seconds(patience_s / 2));
  } catch (const std::system_error& error) {
    failure = std::current_exception();
    if (error.code() == errc::timed_out) failure = std::make_exception_ptr(std::logic_error("the scene stands still"));
  } catch (...) {
    failure = std::current_exception();
  }
  primary.stop(why);
  co_await ended.wait();
  if (failure) std::rethrow_exception(failure);
  if (other) std::rethrow_exception(other);
}

asio::awaitable<void> ask(cluster& primary, asio::ip::tcp::endpoint at) { return request(primary, at); }

asio::awaitable<void> cluster_scene() { return run_cluster(options_for("scarce-worker"), &ask); }

asio::awaitable<void> shared_scene() {
  auto options = options_for("scarce-worker");
  options.distribution = distribution::shared;
  return run_cluster(std::move(options), &ask);
}

asio::awaitable<void> reload(cluster& primary, asio::ip::tcp::endpoint at) {
  co_await primary.reload();
  co_await request(primary, at);
}

asio::awaitable<void> reload_scene() { return run_cluster(options_for("scarce-worker"), &reload); }

asio::awaitable<void> talk(cluster& primary, asio::ip::tcp::endpoint at) {
  messenger<std::variant<text, answer>> speaker(primary);
  bool heard = false;
  speaker.on<answer>([&](const answer&) { heard = true; });
  text what;
  what.value = "is anybody there?";
  const auto became = co_await speaker.send_to_workers(what);
  if (became.delivered == 1) expect(heard || scarcity::has_refused(), "the answer has not come");
  co_await request(primary, at);
}

asio::awaitable<void> messenger_scene() { return run_cluster(options_for("scarce-worker"), &talk); }

/// Memory is refused from the moment on at which the primary is told to stop.
asio::awaitable<void> stop_soon(cluster& primary, asio::ip::tcp::endpoint at) {
  co_await request(primary, at);
  scarcity::refuse(std::strtoull(std::getenv(count_variable), nullptr, 10), mark.c_str());
}

asio::awaitable<void> stop_scene() { return run_cluster(options_for("scarce-worker"), &stop_soon); }

/// The first worker is refused its memory, and not the primary.
asio::awaitable<void> worker_scene() {
  auto options = options_for("scarce-worker");
  const auto first = std::make_shared<bool>(true);
  options.on_start = [first](unsigned, command& program) {
    if (!std::exchange(*first, false)) return;
    program.env(mark_variable, mark);
    program.env(count_variable, std::getenv(count_variable));
  };
  return run_cluster(std::move(options), &talk);
}

const scene all_scenes[] = {
    {"spawn", &spawn_scene},         {"exec", &exec_scene},       {"channel", &channel_scene},
    {"lease", &lease_scene},         {"peer", &peer_scene},       {"cluster", &cluster_scene},
    {"shared", &shared_scene},       {"reload", &reload_scene},   {"messenger", &messenger_scene},
    {"worker", &worker_scene, true}, {"stop", &stop_scene, true},
};

asio::awaitable<void> answer_once(channel_of_texts& up) {
  const auto question = co_await up.receive();
  answer result;
  result.value = question ? "I am" : "nobody";
  co_await up.send(result);
  while (co_await up.receive()) {
  }
}

const verb child("scarce-child", [](const verb::arguments&) {
  asio::io_context context(1);
  auto up = parent<protocol>(context.get_executor());
  int status = 0;
  asio::co_spawn(context, answer_once(up), [&](std::exception_ptr thrown) { status = thrown ? 1 : 0; });
  context.run();
  return status;
});

class listener {
 public:
  explicit listener(worker& self) : talk_(self) {
    talk_.on<text>([this](const text& what) { return answer_to(what); });
  }

 private:
  asio::awaitable<void> answer_to(text what) {
    answer result;
    result.value = "re: " + what.value;
    co_await talk_.send_to_primary(result);
  }

  messenger<std::variant<text, answer>> talk_;
};

const verb worker_verb("scarce-worker", [](const verb::arguments&) {
  std::unique_ptr<listener> here;
  worker_options options;
  options.idle_grace = 1ms;
  options.set_up = [&](worker& self) -> asio::awaitable<void> {
    here = std::make_unique<listener>(self);
    co_return;
  };
  options.tear_down = [&](worker&) -> asio::awaitable<void> {
    here.reset();
    co_return;
  };
  const char* const count = std::getenv(count_variable);
  const char* const where = std::getenv(mark_variable);
  const std::string file = where != nullptr ? where : "";
  if (count != nullptr && where != nullptr) scarcity::refuse(std::strtoull(count, nullptr, 10), file.c_str());
  return run_worker(&serve_lines, options);
});

}  // namespace

const scene& scene_of(const std::string& name) {
  const auto which = std::find_if(std::begin(all_scenes), std::end(all_scenes),
                                  [&](const scene& each) { return name == each.name; });
  if (which == std::end(all_scenes)) throw std::runtime_error("no such scene");
  return *which;
}

}  // namespace cohort::test::scarce_verbs
