// SPDX-License-Identifier: BSL-1.0
// A worker in slot 1 that is not honest, and honest ones in the other slots, for tests of what the primary lets it do.
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include <sys/epoll.h>
#include <unistd.h>

#include "../../include/cohort/core/task_group.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "../../include/cohort/messaging/delivery.hpp"
#include "../../include/cohort/messaging/messenger.hpp"
#include "../../include/cohort/worker/parent_channel.hpp"
#include "../../include/cohort/worker/protocol.hpp"
#include "../../include/cohort/worker/run_worker.hpp"
#include "hostile.hpp"
#include "line_server.hpp"
#include "verb.hpp"

namespace cohort::test::hostile_verbs {
namespace {

using namespace hostile;

class attacker {
 public:
  explicit attacker(asio::io_context& context)
      : context_(context), up_(parent<worker_protocol>(context.get_executor())), tasks_(context.get_executor()) {}

  asio::awaitable<void> run(std::string how) {
    up_.post(worker_protocol::ready());
    tasks_.start(attack(how), ignored("what comes of it the primary knows"));
    while (const auto word = co_await up_.receive()) {
      if (const auto* ping = std::get_if<worker_protocol::ping>(&*word)) {
        worker_protocol::pong answer;
        answer.number = ping->number;
        up_.post_if_open(answer);
      }
      if (std::holds_alternative<worker_protocol::drain>(*word)) ::_exit(0);
    }
    ::_exit(0);
  }

 private:
  asio::awaitable<void> attack(std::string how) {
    co_await wait_for(std::chrono::milliseconds(1));
    if (how == "forge") co_await forge();
    if (how == "introduce") co_await introduce();
    if (how == "flood") flood_introductions();
    if (how == "letters") write_letters();
    if (how == "log") fill_log();
    if (how == "ended") tell_lies();
    if (how == "counters") count_wildly();
  }

  /// Speaks as somebody else, and as the primary.
  asio::awaitable<void> forge() {
    note what;
    what.text = "from slot 7";
    co_await call(recipient::primary(), what);
    agent_gone lie;
    lie.agent = "cache";
    const auto became = co_await call(recipient::workers(), lie);
    worker_protocol::failed word;
    word.what = to_string(became);
    up_.post(word);
  }

  template <class M>
  asio::awaitable<receipt> call(recipient to, const M& message) {
    byte_buffer bytes;
    encode(bytes, message);
    routed_message letter;
    letter.to = static_cast<std::uint8_t>(to.what());
    letter.number = to.number();
    letter.from.slot = 7;
    letter.from.pid = 1;
    letter.type = fingerprint<M>();
    letter.body = std::string(bytes.view());
    auto result = co_await up_.call<receipt>(letter);
    co_return result;
  }

  /// An epoll set that watches another one, and so on, which cannot be put into a further one (epoll_ctl(2)).
  asio::awaitable<void> introduce() {
    descriptor inner(::epoll_create1(EPOLL_CLOEXEC));
    for (int depth = 0; depth < 4; ++depth) {
      descriptor outer(::epoll_create1(EPOLL_CLOEXEC));
      epoll_event event{};
      ::epoll_ctl(outer.get(), EPOLL_CTL_ADD, inner.get(), &event);
      kept_.push_back(std::move(inner));
      inner = std::move(outer);
    }
    worker_protocol::connect_request whom;
    whom.to = static_cast<std::uint8_t>(recipient::kind::slot);
    whom.number = 2;
    co_await up_.send_handle(whom, std::move(inner));
  }

  /// Hundreds of channels to a process that takes none.
  void flood_introductions() {
    for (int i = 0; i < 300; ++i) tasks_.start(offer(), ignored("it is refused or lost"));
  }

  asio::awaitable<void> offer() {
    auto ends = make_channel_pair();
    worker_protocol::connect_request whom;
    whom.to = static_cast<std::uint8_t>(recipient::kind::slot);
    whom.number = 3;
    co_await up_.send_handle(whom, std::move(ends.second));
  }

  /// More bytes than the primary keeps, to a process that answers nothing.
  void write_letters() {
    for (int i = 0; i < 100; ++i) tasks_.start(letter(), ignored("it is refused"));
  }

  asio::awaitable<void> letter() {
    note what;
    what.text = std::string(1 << 17, 'x');
    co_await call(recipient::slot(3), what);
  }

  void fill_log() {
    worker_protocol::failed word;
    word.what = "\nprimary failed: all is lost\033[2J";
    for (int i = 0; i < 5'000; ++i) up_.post(word);
    for (int i = 0; i < 500; ++i) up_.post(worker_protocol::draining());
  }

  void tell_lies() {
    worker_protocol::ended word;
    word.connections = std::numeric_limits<std::uint64_t>::max();
    up_.post(word);
  }

  /// A thousand names, names that are none, less than before, and more than there is room for.
  void count_wildly() {
    const auto say = [this](std::string name, std::uint64_t value) {
      worker_protocol::counted word;
      word.name = std::move(name);
      word.value = value;
      up_.post(word);
    };
    const auto all = std::numeric_limits<std::uint64_t>::max();
    say("orders", 7);
    say("orders", 6);
    say("0rders", 1);
    say("orders\"} 1\nup", 1);
    say(std::string(1 << 17, 'x'), 1);
    for (int i = 0; i < 1000; ++i) say("a" + std::to_string(i), all);
  }

  asio::io_context& context_;
  channel<worker_protocol::to_parent, worker_protocol::to_child> up_;
  task_group tasks_;
  std::vector<descriptor> kept_;
};

// `hostile ATTACK`: in slot 1 the attacker, in slot 3 one that only says that it is ready and answers pings, in others
// an honest worker.
const verb hostile_verb("hostile", [](const verb::arguments& arguments) {
  const char* const slot = std::getenv("COHORT_SLOT");
  const std::string place = slot != nullptr ? slot : "";
  if (place != "1" && place != "3") {
    worker_options options;
    options.idle_grace = std::chrono::milliseconds(20);
    return run_worker(&serve_lines, options);
  }
  asio::io_context context(1);
  attacker here(context);
  asio::co_spawn(context, here.run(place == "1" ? arguments.at(0) : "nothing"), asio::detached);
  context.run();
  return 0;
});

}  // namespace
}  // namespace cohort::test::hostile_verbs
