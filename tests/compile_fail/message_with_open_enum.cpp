// expect: needs a fixed underlying type
#include <cohort/ipc/codec/codec.hpp>

enum color { red, green };

struct job {
  color tint;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
