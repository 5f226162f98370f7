// SPDX-License-Identifier: BSL-1.0
// Each main scene of the library, again and again, with one request for memory refused: the first, the second, and so
// on to the last one that the scene makes.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../include/cohort/cluster/cluster.hpp"
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

#if defined(__SANITIZE_ADDRESS__)
constexpr unsigned patience_s = 60;
#else
constexpr unsigned patience_s = 20;
#endif

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

// ---- the scenes ----------------------------------------------------------------------------------------------------

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
  std::error_code error;
  co_await socket.async_connect(to, asio::redirect_error(asio::use_awaitable, error));
  socket.write_some(asio::buffer(request), error);
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
  primary.stop("the scene ends");
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

constexpr const char* count_variable = "COHORT_TEST_SCARCE_COUNT";
constexpr const char* mark_variable = "COHORT_TEST_SCARCE_MARK";

std::string mark;

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

struct scene {
  const char* name;
  asio::awaitable<void> (*run)();
  bool in_worker = false;
};

const scene scenes[] = {
    {"spawn", &spawn_scene},     {"exec", &exec_scene},           {"channel", &channel_scene},
    {"lease", &lease_scene},     {"peer", &peer_scene},           {"cluster", &cluster_scene},
    {"shared", &shared_scene},   {"reload", &reload_scene},       {"messenger", &messenger_scene},
    {"worker", &worker_scene, true},
};

// ---- one case: a process, in which one request is refused -----------------------------------------------------------

enum outcome { worked, failed, out_of_run, out_of_reach, not_reached, outcomes };

const std::string outcome_names[] = {"worked all the same", "an error of an operation", "an error of the loop",
                                     "not refused"};

std::size_t descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), std::filesystem::directory_iterator()));
}

[[noreturn]] void fall_through(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  ::_exit(100);
}

outcome run_loop(const scene& which) {
  std::exception_ptr failure;
  bool ended = false, thrown_out = false;
  try {
    asio::io_context context(1);
    try {
      asio::co_spawn(context, which.run(), [&](std::exception_ptr thrown) {
        failure = thrown;
        ended = true;
      });
      context.run();
    } catch (...) {
      thrown_out = true;
      failure = std::current_exception();
    }
  } catch (const std::bad_alloc&) {
    return out_of_run;
  }
  try {
    if (failure) std::rethrow_exception(failure);
  } catch (const std::logic_error& error) {
    fall_through(error.what());
  } catch (const std::exception& error) {
    if (std::getenv("COHORT_TEST_SCARCITY_TRACE") != nullptr) std::fprintf(stderr, "became: %s\n", error.what());
    return thrown_out ? out_of_run : failed;
  } catch (...) {
    return thrown_out ? out_of_run : failed;
  }
  if (!ended) fall_through("the loop has ended before the scene");
  return worked;
}

[[noreturn]] void run_case(const scene& which, std::uint64_t n) {
  ::alarm(patience_s);
  mark = (std::filesystem::temp_directory_path() / ("cohort-scarce-" + std::to_string(::getpid()))).string();
  ::setenv(count_variable, std::to_string(n).c_str(), 1);
  const std::size_t before = descriptors();
  if (!which.in_worker) scarcity::refuse(n);
  outcome became = run_loop(which);
  const bool reached = which.in_worker ? ::unlink(mark.c_str()) == 0 : scarcity::has_refused();
  if (scarcity::is_out_of_reach()) ::_exit(out_of_reach);
  scarcity::refuse(0);
  const std::size_t after = descriptors();
  if (after != before) fall_through("descriptors: " + std::to_string(before) + " before, " + std::to_string(after));
  siginfo_t info;
  if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0) fall_through("a child is left");
  if (!reached && became != worked) fall_through("it fails without a reason");
  ::_exit(reached ? became : not_reached);
}

/// Ends what a case has left, whose children are this process's now.
bool has_left_processes() {
  bool any = false;
  for (int tries = 0;; ++tries) {
    const pid_t gone = ::waitpid(-1, nullptr, WNOHANG | __WALL);
    if (gone < 0) return any;
    if (gone > 0) continue;
    if (tries < 3000) {
      ::usleep(1000);
      continue;
    }
    any = true;
    std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
    for (pid_t child = 0; children >> child;) ::kill(child, SIGKILL);
    ::usleep(1000);
  }
}

outcome run_one(const scene& which, std::uint64_t n, bool& good) {
  const pid_t pid = ::fork();
  if (pid == 0) run_case(which, n);
  int status = 0;
  ::waitpid(pid, &status, 0);
  const bool left = has_left_processes();
  std::string trouble;
  if (WIFSIGNALED(status)) {
    trouble = WTERMSIG(status) == SIGALRM ? "it hangs" : "signal " + std::to_string(WTERMSIG(status));
  } else if (WEXITSTATUS(status) >= outcomes) {
    trouble = "exit status " + std::to_string(WEXITSTATUS(status));
  } else if (left) {
    trouble = "it has left processes that do not end";
  }
  if (trouble.empty()) return static_cast<outcome>(WEXITSTATUS(status));
  good = false;
  std::printf("%s, request %llu: %s\n", which.name, static_cast<unsigned long long>(n), trouble.c_str());
  return failed;
}

// `scarce SCENE [STEP [FIRST [LAST]]]`: each STEP-th request from FIRST on, until the scene makes no more. The last
// line says how many cases there were and what became of them.
const verb scarce("scarce", [](const verb::arguments& arguments) {
  const auto at = [&](std::size_t which, std::uint64_t otherwise) -> std::uint64_t {
    return arguments.size() > which ? std::stoull(arguments[which]) : otherwise;
  };
  const auto which = std::find_if(std::begin(scenes), std::end(scenes),
                                  [&](const scene& each) { return arguments.at(0) == each.name; });
  if (which == std::end(scenes)) throw std::runtime_error("no such scene");
  const std::uint64_t step = at(1, 1), first = at(2, 1), last = at(3, 1'000'000);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  scarcity::refuse(1'000'000'000);  // so that what this takes the first time is not part of a case
  scarcity::refuse(0);
  std::uint64_t cases = 0, counts[outcomes] = {};
  bool good = true;
  int not_reached_in_a_row = 0;
  for (std::uint64_t n = first; n <= last; n += step) {
    std::fflush(stdout);
    const auto became = run_one(*which, n, good);
    // A worker may have been stopped before it came to that request.
    not_reached_in_a_row = became == not_reached ? not_reached_in_a_row + 1 : 0;
    if (not_reached_in_a_row == (which->in_worker ? 10 : 1)) break;
    if (became == not_reached) continue;
    ++cases;
    ++counts[became];
  }
  std::printf("%s: %llu cases", which->name, static_cast<unsigned long long>(cases));
  for (int each = 0; each < not_reached; ++each) {
    std::printf("; %s: %llu", outcome_names[each].c_str(), static_cast<unsigned long long>(counts[each]));
  }
  std::printf("\n");
  return good ? 0 : 1;
});

// `scarce-once SCENE`: the scene as it is, for whoever makes its system calls fail from outside. 0: it worked; 1: it
// ended with an error.
const verb once("scarce-once", [](const verb::arguments& arguments) {
  const auto which = std::find_if(std::begin(scenes), std::end(scenes),
                                  [&](const scene& each) { return arguments.at(0) == each.name; });
  if (which == std::end(scenes)) throw std::runtime_error("no such scene");
  const std::size_t before = descriptors();
  const outcome became = run_loop(*which);
  if (descriptors() != before) fall_through("descriptors are left");
  siginfo_t info;
  if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0) fall_through("a child is left");
  return became == worked ? 0 : 1;
});

// ---- the processes that the scenes start ----------------------------------------------------------------------------

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
}  // namespace cohort::test::scarce_verbs
