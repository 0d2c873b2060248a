// The one source file of the targets that hold the precompiled headers.
