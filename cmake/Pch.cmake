# Three precompiled headers, built once and reused: without gRPC, with it, and for tests.
function(tandem_pch name header)
  add_library(${name} STATIC ${PROJECT_SOURCE_DIR}/cmake/pch.cc)
  target_precompile_headers(${name} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/${header})
  target_link_libraries(${name} PRIVATE ${ARGN})
endfunction()

tandem_pch(tandem_pch_base pch_base.h absl::status absl::statusor absl::strings absl::span
           absl::time absl::flat_hash_map)
tandem_pch(tandem_pch_grpc pch_grpc.h absl::status absl::statusor absl::strings absl::span
           absl::time absl::flat_hash_map gRPC::grpc++ protobuf::libprotobuf)
if(TANDEM_TESTS)
  tandem_pch(tandem_pch_test pch_test.h absl::status absl::statusor absl::strings absl::span
             absl::time absl::flat_hash_map GTest::gmock)
endif()
