# Every library that Tandem links, with the oldest version that it was tried with.
find_package(Threads REQUIRED)
find_package(OpenSSL 3.0 REQUIRED)
find_package(Protobuf 3.21 REQUIRED)
find_package(absl 20220623 REQUIRED)
find_package(gRPC 1.51 REQUIRED)
find_package(yaml-cpp 0.7 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(prometheus-cpp REQUIRED) # its package states no version
find_package(Boost 1.74 REQUIRED) # headers only: Beast and Asio
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
find_program(TANDEM_GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)
if(TANDEM_TESTS)
  find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
  find_package(GTest 1.12 REQUIRED)
  find_package(benchmark 1.7 REQUIRED)
endif()
