// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "../../../core/asio.hpp"
#include "../../../core/descriptor.hpp"
#include "../../../core/event.hpp"
#include "../message.hpp"
#include "../options.hpp"
#include "framer.hpp"
#include "inbox.hpp"
#include "outbox.hpp"
#include "socket_counts.hpp"

namespace cohort::detail {

/// One end of a Node channel: reads in the background, answers what Node's rules have it answer, and keeps what arrives
/// until it is received. The operations hold it; `node_link` is the owner that closes it.
///
/// It reads as long as something of this side's waits for the peer, however much has arrived: two that write to each
/// other and read neither would else stop for ever. What arrives then has a limit of its own (`hard_limit`).
class node_connection : public std::enable_shared_from_this<node_connection> {
 public:
  using ptr = std::shared_ptr<node_connection>;
  using wanted = node_inbox::wanted;

  static ptr open(asio::any_io_executor executor, descriptor socket, const node_options& options);

  /// Use open().
  node_connection(asio::any_io_executor executor, descriptor socket, const node_options& options);

  /// Queues a frame and writes what can be written. Throws errc::closed, peer_closed, and what broke the channel.
  std::shared_ptr<node_outgoing> push(const char* step, std::string frame, int fd = -1,
                                      std::optional<node_handle_type> type = {});

  /// Waits for the end of a message; see node_link::send() and send_handle().
  static asio::awaitable<void> finish(ptr self, const char* step, std::shared_ptr<node_outgoing> message);

  static asio::awaitable<std::optional<node_message>> receive(ptr self, wanted which);
  static asio::awaitable<void> flush(ptr self);
  static asio::awaitable<void> disconnect(ptr self);

  void close();

  /// The peer has ended: what it has sent can still be read, and then it is over, whoever else has its end.
  void end();

  /// Neither closed, nor disconnected, nor broken; and the peer has not ended the channel.
  bool is_connected() const noexcept { return !closed_ && !leaving_ && !ended_ && !broken_; }
  bool has_output() const noexcept { return outbox_.has_output() || !outbox_.is_idle(); }
  std::size_t waiting_bytes() const noexcept { return outbox_.waiting_bytes(); }

  const node_options& options() const noexcept { return options_; }
  asio::any_io_executor get_executor() { return socket_.get_executor(); }
  int native_handle() { return socket_.native_handle(); }

  /// Writes at the end of this turn of the loop what is queued by then.
  void flush_soon();

  /// Queues without writing.
  void queue(std::string frame, bool is_answer = false);

 private:
  enum class read_outcome { empty, data, end };

  void check_open(const char* step) const;
  void check_end(const char* step) const;

  void flush_now();
  void on_progress();
  void resume_when_writable();
  void resume_next_turn();
  void resume_later();

  bool should_read() const;
  void read_on();
  void on_readable();
  read_outcome read_once();
  void keep_descriptors(const msghdr& message);
  void take_messages();

  void on_message(json value, std::size_t size);
  void on_handle(json envelope, std::size_t size);
  void on_internal(json value, std::size_t size, node_handle handle);

  /// Of the cluster protocol, what had to be refused is a question all the same, and the sender waits for the answer.
  void put_lost(json& envelope, std::size_t size);
  void on_count(const json& value, bool at_close);
  void say(json message);
  void answer(std::string_view cmd);
  void acknowledge_held();
  void look_for_closed();

  void on_end();
  void break_off(std::exception_ptr why);
  void close_socket();
  void wake_all();

  node_options options_;
  asio::posix::stream_descriptor socket_;
  asio::steady_timer retry_, closed_timer_;
  event messages_, internals_, over_;
  node_framer framer_;
  node_inbox inbox_;
  node_outbox outbox_;
  node_socket_counts counts_;
  std::deque<descriptor> unclaimed_;  // that arrived, of messages that are not whole yet
  std::exception_ptr broken_;
  std::size_t held_acks_ = 0;
  bool reading_ = false, writing_ = false, flush_posted_ = false, torn_ = false;
  bool leaving_ = false, ended_ = false, closed_ = false;
};

}  // namespace cohort::detail

#ifndef COHORT_SEPARATE_COMPILATION
#include "connection.ipp"
#include "connection_input.ipp"
#endif
