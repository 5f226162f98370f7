// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/net/tls_tickets.hpp"

#include <memory>
#include <string>

#include "tls_scene.hpp"

namespace cohort::test::tls_tickets_test {
namespace {

using session = std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)>;

/// A server as one process has it, with keys and a context of its own.
struct server {
  explicit server(int version) : context(make_server_context()) {
    SSL_CTX_set_min_proto_version(context->native_handle(), version);
    SSL_CTX_set_max_proto_version(context->native_handle(), version);
    keys.use_in(context->native_handle());
  }
  tls_ticket_keys keys;
  std::shared_ptr<asio::ssl::context> context;
};

struct visit {
  bool resumed = false;
  session ticket{nullptr, &SSL_SESSION_free};
};

/// A handshake in memory and one byte to the client, behind which the tickets of TLS 1.3 have come.
visit connect(server& to, const session& with = session(nullptr, &SSL_SESSION_free)) {
  asio::ssl::context client_context(asio::ssl::context::tls_client);
  const std::unique_ptr<SSL, decltype(&SSL_free)> near(SSL_new(client_context.native_handle()), &SSL_free);
  const std::unique_ptr<SSL, decltype(&SSL_free)> far(SSL_new(to.context->native_handle()), &SSL_free);
  BIO *near_end = nullptr, *far_end = nullptr;
  REQUIRE(BIO_new_bio_pair(&near_end, 0, &far_end, 0) == 1);
  SSL_set_bio(near.get(), near_end, near_end);
  SSL_set_bio(far.get(), far_end, far_end);
  SSL_set_connect_state(near.get());
  SSL_set_accept_state(far.get());
  if (with) REQUIRE(SSL_set_session(near.get(), with.get()) == 1);
  for (int turn = 0; turn < 10 && (SSL_do_handshake(near.get()) != 1 || SSL_do_handshake(far.get()) != 1); ++turn) {
    SSL_do_handshake(far.get());
  }
  char one = 'x';
  REQUIRE(SSL_write(far.get(), &one, 1) == 1);
  REQUIRE(SSL_read(near.get(), &one, 1) == 1);
  visit result;
  result.resumed = SSL_session_reused(near.get()) == 1;
  result.ticket.reset(SSL_get1_session(near.get()));
  SSL_shutdown(near.get());  // or the session would not be one to resume
  ERR_clear_error();
  return result;
}

void check_tickets(int version) {
  server one(version), other(version);
  const auto alone = connect(one);
  CHECK_FALSE(alone.resumed);
  CHECK(connect(one, alone.ticket).resumed);
  CHECK_FALSE(connect(other, alone.ticket).resumed);  // which has keys of its own

  const tls_ticket_key first = make_tls_ticket_key(), second = make_tls_ticket_key(), third = make_tls_ticket_key();
  for (server* each : {&one, &other}) each->keys.add(first);
  const auto before = connect(one);
  CHECK_FALSE(before.resumed);
  CHECK(connect(other, before.ticket).resumed);

  other.keys.add(second);
  other.keys.add(second);  // told twice
  const auto renewed = connect(other, before.ticket);
  CHECK(renewed.resumed);
  other.keys.add(third);
  CHECK_FALSE(connect(other, before.ticket).resumed);  // two keys later
  CHECK(connect(other, renewed.ticket).resumed);       // its new ticket is of the key before
}

PLAIN_TEST("a ticket of TLS 1.3 is resumed by every server with its key, until two newer keys have come") {
  check_tickets(TLS1_3_VERSION);
}

PLAIN_TEST("a ticket of TLS 1.2 is resumed by every server with its key, until two newer keys have come") {
  check_tickets(TLS1_2_VERSION);
}

PLAIN_TEST("keys are all different") {
  const auto one = make_tls_ticket_key(), other = make_tls_ticket_key();
  CHECK(one.name != other.name);
  CHECK(one.cipher != other.cipher);
  CHECK(one.mac != other.mac);
}

}  // namespace
}  // namespace cohort::test::tls_tickets_test
