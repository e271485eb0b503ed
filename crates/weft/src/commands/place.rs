//! Which agent does a command speak to: the one beside it, or one that listens elsewhere?

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser as _};
use weft_api::{Client, TlsOptions};

use super::agent::default_socket;

/// Where the agent is.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Where {
    /// The agent's socket [default: weft-agent.sock in $OVS_RUNDIR, or in /var/run/openvswitch].
    #[arg(long, value_name = "FILE", global = true, env = "WEFT_SOCKET")]
    socket: Option<PathBuf>,
    /// An agent that was started with --listen, by TLS; it is trusted by --ca.
    #[arg(
        long,
        value_name = "HOST:PORT",
        global = true,
        env = "WEFT_SERVER",
        requires = "ca",
        conflicts_with = "socket"
    )]
    server: Option<String>,
    /// CAs of the server's certificate, PEM.
    #[arg(long, value_name = "FILE", global = true, env = "WEFT_CA")]
    ca: Option<PathBuf>,
    /// Certificate to show to the server, PEM.
    #[arg(long, value_name = "FILE", global = true, env = "WEFT_CERT", requires = "key")]
    cert: Option<PathBuf>,
    /// Key of --cert, PEM.
    #[arg(long, value_name = "FILE", global = true, env = "WEFT_KEY", requires = "cert")]
    key: Option<PathBuf>,
    /// File with the token to show to the server.
    #[arg(long, value_name = "FILE", global = true, env = "WEFT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// A line that only says where.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    place: Where,
}

impl Where {
    /// What a line that is not whole yet says of it, if that makes sense.
    pub(crate) fn of_words(words: &[String]) -> Option<Self> {
        let line = Line::command();
        let options: Vec<&str> = line.get_arguments().filter_map(clap::Arg::get_long).collect();
        let mut said = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (option, value) = word.split_once('=').map_or((word.as_str(), None), |(o, v)| (o, Some(v)));
            if option.strip_prefix("--").is_some_and(|name| options.contains(&name)) {
                let value = value.or_else(|| words.next().map(String::as_str))?;
                said.push(format!("{option}={value}"));
            }
        }
        Line::try_parse_from(said).ok().map(|line| line.place)
    }

    /// A client of it.
    ///
    /// # Errors
    /// When a certificate, key or token cannot be read.
    pub(crate) fn client(&self) -> Result<Client, Box<dyn std::error::Error>> {
        let client = match &self.server {
            None => Client::unix(self.socket.clone().unwrap_or_else(|| default_socket(None))),
            Some(address) => {
                let token = self.token_file.as_ref().map(|file| {
                    let text = std::fs::read_to_string(file);
                    text.map(|t| t.trim().to_owned()).map_err(|e| format!("{}: {e}", file.display()))
                });
                let options = TlsOptions {
                    ca: self.ca.clone().unwrap_or_default(),
                    certificate: self.cert.clone().zip(self.key.clone()),
                    token: token.transpose()?,
                };
                Client::tcp(address, &options)?
            }
        };
        Ok(client.with_manager("weft-apply"))
    }
}
