// SPDX-License-Identifier: BSL-1.0
/// What a service manager does for a service: variables of the environment, and a socket that hears how it does.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../../include/cohort/core/descriptor.hpp"
#include "../../support/harness.hpp"

namespace cohort::test {

/// A variable of this process's environment, for as long as the object lives.
struct variable {
  variable(const char* n, const std::string& value) : name(n) { ::setenv(name, value.c_str(), 1); }
  variable(const variable&) = delete;
  ~variable() { ::unsetenv(name); }

  const char* name;
};

/// The manager's end of NOTIFY_SOCKET: an AF_UNIX datagram socket.
class notify_socket {
 public:
  /// Binds a path, or an abstract name that the kernel chooses (unix(7), "Autobind feature").
  explicit notify_socket(const std::string& path = "")
      : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), path_(path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    const auto size = path.empty() ? sizeof address.sun_family : sizeof address;
    REQUIRE(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(size)) == 0);
    if (!path.empty()) return;
    socklen_t known = sizeof address;
    REQUIRE(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &known) == 0);
    abstract_.assign(address.sun_path + 1, known - offsetof(sockaddr_un, sun_path) - 1);
  }
  notify_socket(const notify_socket&) = delete;
  ~notify_socket() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }

  /// What NOTIFY_SOCKET is to be.
  std::string name() const { return path_.empty() ? "@" + abstract_ : path_; }

  /// The next datagram; "(nothing)" if there is none.
  std::string next() const {
    char buffer[4096];
    const auto size = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    return size >= 0 ? std::string(buffer, static_cast<std::size_t>(size)) : "(nothing)";
  }

  /// Takes what is there, into `heard`, and says whether a text is among all that has been heard.
  bool hears(const std::string& text) {
    for (std::string each = next(); each != "(nothing)"; each = next()) heard.push_back(each);
    return std::find(heard.begin(), heard.end(), text) != heard.end();
  }

  std::size_t count(const std::string& text) {
    hears(text);
    return static_cast<std::size_t>(std::count(heard.begin(), heard.end(), text));
  }

  asio::awaitable<void> until(std::string text) {
    const bool said = co_await eventually([&] { return hears(text); });
    if (said) co_return;
    std::string all;
    for (const auto& each : heard) all += each + "\n";
    FAIL("not heard: ", text, "; but:\n", all);
  }

  void close() { socket_.reset(); }

  std::vector<std::string> heard;

 private:
  descriptor socket_;
  std::string path_, abstract_;
};

}  // namespace cohort::test
