// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "outbox.hpp"

#include "../../../core/config.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <sys/socket.h>
#include <sys/uio.h>

#include "../../../core/error.hpp"
#include "../../../core/system.hpp"

namespace cohort::detail {

COHORT_INLINE void node_outbox::finish(node_outgoing& message, node_outgoing::stage how, std::error_code why) {
  message.state = how;
  message.error = why;
  message.fd = -1;
  if (message.changed) message.changed->set();
}

COHORT_INLINE void node_outbox::push(message_ptr message) {
  waiting_bytes_ += message->bytes.size();
  if (message->is_answer) answer_bytes_ += message->bytes.size();
  if (pending_) {
    held_.push_back(std::move(message));
    return;
  }
  if (message->has_handle) pending_ = message;
  queue_.push_back(std::move(message));
}

COHORT_INLINE void node_outbox::answer(std::string bytes) {
  waiting_bytes_ += bytes.size();
  answer_bytes_ += bytes.size();
  auto message = std::make_shared<node_outgoing>();
  message->bytes = std::move(bytes);
  message->is_answer = true;
  queue_.insert(queue_.begin() + static_cast<std::ptrdiff_t>(begun()), std::move(message));
}

COHORT_INLINE node_outbox::outcome node_outbox::write(int socket) {
  constexpr std::size_t bytes_a_turn = 4 * 1024 * 1024;
  std::size_t total = 0;
  while (!queue_.empty()) {
    if (total >= bytes_a_turn) return outcome::more;
    const node_outgoing& front = *queue_.front();
    const bool with_handle = front.has_handle && front.written == 0;
    const ssize_t sent = with_handle ? write_handle(socket, front) : write_plain(socket);
    if (sent >= 0) {
      total += static_cast<std::size_t>(sent);
      advance(static_cast<std::size_t>(sent));
      continue;
    }
    switch (errno) {
      case EAGAIN: return outcome::blocked;
      case ENOBUFS:
      case ENOMEM:
      case ETOOMANYREFS: return outcome::starved;
      case EBADF:
      case EINVAL:
      case EPERM:
        if (with_handle) {  // the kernel does not pass this one; the channel goes on
          drop_front(std::error_code(errno, std::system_category()));
          continue;
        }
        [[fallthrough]];
      default: return outcome::failed;
    }
  }
  return outcome::done;
}

COHORT_INLINE ssize_t node_outbox::write_handle(int socket, const node_outgoing& of) const {
  iovec part{const_cast<char*>(of.bytes.data()), of.bytes.size()};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &of.fd, sizeof(int));
  return system::retry(system::call.sendmsg, socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

COHORT_INLINE ssize_t node_outbox::write_plain(int socket) const {
  constexpr std::size_t most = 64;
  iovec parts[most];
  std::size_t count = 0;
  for (const auto& each : queue_) {
    if (count == most || (each->has_handle && each->written == 0)) break;
    parts[count++] = {each->bytes.data() + each->written, each->bytes.size() - each->written};
  }
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = count;
  return system::retry(system::call.sendmsg, socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

COHORT_INLINE void node_outbox::advance(std::size_t size) {
  waiting_bytes_ -= size;
  do {
    node_outgoing& front = *queue_.front();
    const std::size_t part = std::min(size, front.bytes.size() - front.written);
    front.written += part;
    size -= part;
    if (front.is_answer) answer_bytes_ -= part;
    front.state = node_outgoing::stage::begun;
    if (front.written != front.bytes.size()) return;
    if (front.has_handle) {
      front.state = node_outgoing::stage::written;
      if (!front.repeats) std::string().swap(front.bytes);
    } else {
      finish(front, node_outgoing::stage::done);
    }
    queue_.pop_front();
  } while (!queue_.empty() && (size != 0 || queue_.front()->bytes.empty()));
}

COHORT_INLINE void node_outbox::on_ack() {
  if (!pending_ || pending_->state != node_outgoing::stage::written) return;
  finish(*std::exchange(pending_, nullptr), node_outgoing::stage::done);
  release_held();
}

COHORT_INLINE void node_outbox::on_nack() {
  if (!pending_ || pending_->state != node_outgoing::stage::written) return;
  if (pending_->repeats && pending_->fd >= 0 && pending_->repeated < max_repeats) {
    ++pending_->repeated;
    pending_->written = 0;
    pending_->state = node_outgoing::stage::waiting;
    waiting_bytes_ += pending_->bytes.size();
    queue_.insert(queue_.begin() + static_cast<std::ptrdiff_t>(begun()), pending_);
    return;
  }
  finish(*std::exchange(pending_, nullptr), node_outgoing::stage::failed, make_error_code(errc::handle_lost));
  release_held();
}

COHORT_INLINE bool node_outbox::withdraw(node_outgoing& message) {
  if (message.state != node_outgoing::stage::waiting) return false;
  const auto is_it = [&](const message_ptr& each) { return each.get() == &message; };
  auto& list = std::find_if(held_.begin(), held_.end(), is_it) == held_.end() ? queue_ : held_;
  const auto at = std::find_if(list.begin(), list.end(), is_it);
  if (at == list.end()) return false;
  waiting_bytes_ -= message.bytes.size();
  const message_ptr alive = *at;
  list.erase(at);
  message.fd = -1;
  if (pending_ == alive) {
    pending_ = nullptr;
    release_held();
  }
  return true;
}

COHORT_INLINE void node_outbox::release_held() {
  while (!held_.empty() && !pending_) {
    if (held_.front()->has_handle) pending_ = held_.front();
    queue_.push_back(std::move(held_.front()));
    held_.pop_front();
  }
}

COHORT_INLINE void node_outbox::drop_front(std::error_code why) {
  const message_ptr front = std::move(queue_.front());
  queue_.pop_front();
  waiting_bytes_ -= front->bytes.size();
  pending_ = nullptr;
  finish(*front, node_outgoing::stage::failed, why);
  release_held();
}

COHORT_INLINE void node_outbox::fail(std::error_code why) {
  std::deque<message_ptr> all = std::move(queue_);
  queue_.clear();
  if (pending_) all.push_back(std::exchange(pending_, nullptr));
  all.insert(all.end(), held_.begin(), held_.end());
  held_.clear();
  waiting_bytes_ = answer_bytes_ = 0;
  for (const auto& each : all) {
    if (!each->is_over()) finish(*each, node_outgoing::stage::failed, why);
  }
}

}  // namespace cohort::detail
