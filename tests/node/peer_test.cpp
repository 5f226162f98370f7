// SPDX-License-Identifier: BSL-1.0
// Children that are no Node: a shell speaks lines of JSON too.
#include "../../include/cohort/ipc/node/peer.hpp"

#include <cstdlib>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "../../include/cohort/core/error.hpp"
#include "../../include/cohort/ipc/channel_pair.hpp"
#include "raw_peer.hpp"

namespace cohort::test::node_peer_test {

struct job {
  int from = 0, to = 0;
};
struct stop {};
struct result {
  std::string said;
};

struct protocol {
  using to_child = std::variant<job, stop>;
  using to_parent = result;
};

struct raw {
  using to_child = json;
  using to_parent = json;
};

namespace {

using asio::ip::tcp;

command shell(const std::string& script) { return command("/bin/sh", "-c", script); }

/// Sets a variable of this process for a while.
class variable {
 public:
  variable(const char* name, const std::string& value) : name_(name) { ::setenv(name, value.c_str(), 1); }
  variable(const variable&) = delete;
  ~variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

std::error_code parent_error() {
  try {
    detail::take_node_parent();
  } catch (const std::system_error& error) {
    return error.code();
  }
  return {};
}

ASYNC_TEST("a shell is a typed peer") {
  auto peer = co_await spawn<protocol, node_wire>(
      shell(R"(read line <&3; echo "{\"said\":\"$(echo "$line" | tr -d '"{}')\",\"more\":1}" >&3; read line <&3)"));
  co_await peer.send<job>(1, 5);
  const auto answer = co_await peer.receive();
  CHECK(answer->said == "from:1,to:5,type:job");
  co_await peer.disconnect();
  const auto status = co_await peer.wait();
  CHECK(status.code() == 1);  // read has found the end
}

ASYNC_TEST("a child gets the variables of its own channel, and not those of its parent's") {
  const variable fd("NODE_CHANNEL_FD", "77");
  const variable mode("NODE_CHANNEL_SERIALIZATION_MODE", "advanced");
  const variable id("NODE_UNIQUE_ID", "5");
  const char* const script =
      R"(count=$(env | grep -c "^NODE_[CU]")
         echo "[\"$NODE_CHANNEL_FD\",\"$NODE_CHANNEL_SERIALIZATION_MODE\",\"$NODE_UNIQUE_ID\",$count]" >&4)";
  auto peer = co_await spawn<raw, node_wire>(shell(script).fd(3, stdio::null));
  const auto answer = co_await peer.receive();
  CHECK(*answer == parsed(R"(["4","json","",2])"));
  const auto end = co_await peer.receive();
  CHECK_FALSE(end.has_value());
  const auto status = co_await peer.wait();
  CHECK(status.success());
}

ASYNC_TEST("the channel ends with the child, although a grandchild holds its end") {
  auto peer = co_await spawn<raw, node_wire>(shell("sleep 600 & echo $! >&3; exit 0"));
  const auto grandchild = co_await peer.receive();
  const auto end = co_await peer.receive();
  CHECK_FALSE(end.has_value());
  const auto status = co_await peer.wait();
  CHECK(status.success());
  ::kill(grandchild->get<pid_t>(), SIGKILL);
}

ASYNC_TEST("a message that does not fit is an error in its place, and the next one is received") {
  auto peer = co_await spawn<protocol, node_wire>(shell(R"(printf '{"said":5}\n{}\n{"said":"ok"}\n' >&3)"));
  auto text = co_await text_of(peer.receive());
  CHECK(text == "$.said: wanted a string, got 5: the two sides define the message differently");
  text = co_await text_of(peer.receive());
  CHECK(text == "$.said: missing: the two sides define the message differently");
  const auto answer = co_await peer.receive();
  CHECK(answer->said == "ok");
  const auto status = co_await peer.wait();
  CHECK(status.success());
}

ASYNC_TEST("a handle is given away when it has arrived, and an lvalue is shared") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  node_channel<json, json> here(executor, std::move(ends.first)), there(executor, std::move(ends.second));
  tcp::acceptor acceptor(executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const json message = 1;
  co_await here.send_handle(message, acceptor);
  CHECK(acceptor.is_open());
  co_await here.send_handle(message, std::move(acceptor));
  CHECK_FALSE(acceptor.is_open());
  co_await here.send(message);
  const auto plain = co_await there.receive();
  CHECK(*plain == message);
  for (int index = 0; index < 2; ++index) {
    auto next = co_await there.receive_handle();
    CHECK(next->message == message);
    const auto made = std::move(next->handle).as<tcp::acceptor>(executor);
    CHECK(made.is_open());
  }
  descriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const auto error = co_await error_of(here.send_handle(message, std::move(null)));
  CHECK(error == errc::wrong_handle_kind);
  CHECK(null);
}

ASYNC_TEST("a child finds its channel, and its children do not") {
  const auto executor = co_await asio::this_coro::executor;
  auto ends = make_channel_pair();
  {
    const variable fd("NODE_CHANNEL_FD", std::to_string(ends.first.get()) + "abc");  // parseInt() stops there
    const variable mode("NODE_CHANNEL_SERIALIZATION_MODE", "advanced");
    CHECK(has_node_parent());
    auto channel = parent<protocol, node_wire>(executor);
    (void)ends.first.release();
    CHECK_FALSE(has_node_parent());
    CHECK(std::getenv("NODE_CHANNEL_SERIALIZATION_MODE") == nullptr);
    CHECK(channel.link().options().serialization == node_serialization::advanced);
  }
  CHECK(parent_error() == errc::no_parent);
  for (const char* wrong : {"", "x", "-1", "0x", "9999"}) {
    const variable fd("NODE_CHANNEL_FD", wrong);
    CHECK(parent_error() == errc::no_parent);
  }
  const variable fd("NODE_CHANNEL_FD", std::to_string(ends.second.get()));
  const variable mode("NODE_CHANNEL_SERIALIZATION_MODE", "other");
  CHECK(parent_error() == errc::invalid_option);
}

}  // namespace
}  // namespace cohort::test::node_peer_test
