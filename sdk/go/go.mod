module epicenter.dev/workspace

go 1.24
