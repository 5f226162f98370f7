// expect: cohort needs Asio 1.22 or later: <asio/version.hpp> on the include path is older
// flags: -I{here}/older
#include <cohort/cohort.hpp>
