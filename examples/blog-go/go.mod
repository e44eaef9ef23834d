module blog-go

go 1.24

require epicenter.dev/workspace v0.0.0

replace epicenter.dev/workspace => ../../sdk/go
