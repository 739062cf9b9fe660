//! GPUs, in the words of Docker's command line.

use bollard::models::DeviceRequest;

/// Understands `all`, a count, or comma-separated fields such as `"device=0,1"`, `count=2`, `driver=nvidia`,
/// `capabilities=compute`, in which double quotes hold fields with commas together.
pub(super) fn request(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest { driver: Some(String::new()), ..DeviceRequest::default() };
    let mut capabilities = vec!["gpu".to_owned()];
    for field in fields(text) {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match key {
            "count" if value == "all" => request.count = Some(-1),
            "count" => request.count = Some(value.parse::<u32>().map_err(|_| unfit(text))?.into()),
            "device" => request.device_ids = Some(list()),
            "driver" => request.driver = Some(value.to_owned()),
            "capabilities" => capabilities.extend(list()),
            _ => return Err(unfit(text)),
        }
    }
    if request.count.is_some() && request.device_ids.is_some() {
        return Err(unfit(text));
    }
    if request.count.is_none() && request.device_ids.is_none() {
        request.count = Some(1);
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

fn unfit(text: &str) -> String {
    format!("gpus {text:?} is neither \"all\" nor a count nor \"device=…\"")
}

fn fields(text: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(letter),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_command_line() {
        let all = request("all").expect("all");
        assert_eq!((all.count, all.capabilities), (Some(-1), Some(vec![vec!["gpu".to_owned()]])));
        assert_eq!(request("2").expect("a count").count, Some(2));
        let ids = |text| request(text).expect("devices").device_ids.expect("ids");
        assert_eq!(ids("device=GPU-3a"), ["GPU-3a"]);
        assert_eq!(ids("\"device=0,1\""), ["0", "1"]);
        assert_eq!(request("device=0,driver=nvidia").expect("both").driver.as_deref(), Some("nvidia"));
        for unfit in ["", "-1", "some", "count=all,device=0", "what=1"] {
            assert!(request(unfit).is_err(), "{unfit:?}");
        }
    }
}
